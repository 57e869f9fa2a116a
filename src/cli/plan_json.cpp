#include "base/json.h"
#include "cli/plan_report.h"
#include "cli/plan_request.h"

namespace packmule::cli {
namespace {

Json footprint_json(const placement::Footprint& taken, const placement::Processor& processor) {
  return {{"name", processor.name},
          {"weights_bytes", taken.weights},
          {"kv_cache_bytes", taken.kv},
          {"recurrent_state_bytes", taken.state},
          {"compute_bytes", taken.compute},
          {"total_bytes", taken.total()},
          {"budget_bytes", processor.budget_bytes()}};
}

Json processor_json(const placement::Processor& processor, bool is_device) {
  Json json = {{"name", processor.name},
               {"words", processor.words},
               {"free_bytes", processor.free_bytes},
               {"reserve_bytes", processor.reserve_bytes},
               {"read_gb_s", processor.read_bytes_s * 1e-9},
               {"tflop_s", 2e-12 * processor.multiply_add_s}};
  if (is_device) json["pcie_gb_s"] = processor.link_bytes_s * 1e-9;
  return json;
}

Json speed_json(const placement::Machine& machine, const placement::Seconds& seconds, int64_t n_tokens,
                int64_t depth) {
  Json json = {
      {"tokens", n_tokens}, {"depth", depth}, {"tokens_s", static_cast<double>(n_tokens) / seconds.total()}};
  Json& bound_by = json["bound_by"] = Json::object();
  for (const Bound& bound : bounds(machine, seconds)) bound_by[bound.what] = bound.share;
  return json;
}

Json rules_json(const PlanReport& report) {
  Json rules = Json::array();
  for (const placement::RuleReport& rule : report.rules)
    rules.push_back({{"rule", rule.rule},
                     {"matches", rule.matches},
                     {"layers", rule.layers},
                     {"tensors", rule.n_tensors},
                     {"effective_tensors", rule.n_effective},
                     {"effective_bytes", rule.effective_bytes},
                     {"warnings", rule.warnings}});
  return rules;
}

Json groups_json(const PlanReport& report) {
  Json groups = Json::array();
  for (const PlacedGroup& group : placed_groups(report))
    groups.push_back({{"what", group.what},
                      {"where", report.request.machine.at(group.where).name},
                      {"layers", group.layers},
                      {"bytes", group.bytes},
                      {"by", group.by}});
  return groups;
}

Json tensors_json(const PlanReport& report) {
  Json tensors = Json::array();
  const auto& all = report.request.inventory.tensors;
  for (size_t t = 0; t < all.size(); ++t) {
    if (all[t].part == placement::Part::kUnused) continue;
    const placement::Where where = report.plan.placement.of_tensor[t];
    tensors.push_back({{"name", all[t].name},
                       {"where", report.request.machine.at(where).name},
                       {"bytes", placement::bytes_at(all[t], where)}});
  }
  return tensors;
}

}  // namespace

std::string plan_json(const PlanReport& report) {
  const placement::Machine& machine = report.request.machine;
  const placement::Demand& demand = report.request.demand;
  const placement::Plan& plan = report.plan;
  Json json = {{"model", report.model_path},
               {"name", report.model_name},
               {"layers", report.request.inventory.shape.n_layers},
               {"weights_bytes", report.request.inventory.loaded_bytes},
               {"weights_bytes_per_token", report.request.inventory.bytes_per_token},
               {"not_loaded_bytes", report.request.inventory.unused_bytes},
               {"context", demand.n_ctx},
               {"cache_type_k", report.k_type},
               {"cache_type_v", report.v_type},
               {"ubatch", demand.ubatch},
               {"sequences", demand.n_sequences},
               {"threads", report.n_threads},
               {"isa", report.isa},
               {"host_speeds",
                report.measured.host.n_measured + report.measured.host.n_known > 0 ? "measured" : "default"}};
  for (size_t p = 0; p < machine.processors.size(); ++p)
    json["machine"].push_back(processor_json(machine.processors[p], p != placement::kHost));
  json["rules"] = rules_json(report);
  json["placement"] = groups_json(report);
  for (size_t p = 0; p < machine.processors.size(); ++p)
    json["memory"].push_back(footprint_json(plan.footprints[p], machine.processors[p]));
  json["share_of_cpu_weights_on_disk"] = plan.share_on_disk;
  json["decode"] = speed_json(machine, plan.decode, 1, plan.depth);
  json["decode_full_context"] =
      speed_json(machine, plan.decode_full, 1, std::max<int64_t>(0, demand.n_ctx - 1));
  json["prefill"] = speed_json(machine, plan.prefill, plan.prefill_tokens, 0);
  if (report.decode_without_rules_s > 0)
    json["decode_without_rules_tokens_s"] = 1 / report.decode_without_rules_s;
  const std::vector<StreamedLayers> streamed = streamed_layers(plan);
  json["stream_experts_from_tokens"] = streamed.empty() ? 0 : streamed.front().from_tokens;
  Json& layers = json["stream_experts"] = Json::array();
  for (const StreamedLayers& some : streamed)
    layers.push_back({{"from_tokens", some.from_tokens}, {"layers", some.layers}});
  json["stream_ring_bytes"] = plan.has_ring && machine.n_devices() > 0 ? demand.stream_bytes() : 0;
  json["tensors"] = tensors_json(report);
  // Names of a file need not be UTF-8: what is not becomes U+FFFD.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace packmule::cli
