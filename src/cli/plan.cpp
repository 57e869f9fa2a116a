// packmule plan: where everything would go and how fast that would be, without loading anything.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/cpu.h"
#include "cache/sequence.h"
#include "calibration/speed_file.h"
#include "cli/common_flags.h"
#include "cli/placement_flags.h"
#include "cli/plan_report.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace packmule::cli {
namespace {

/// Tokens in the cache that decoding is judged at, if the context has room for them.
constexpr int64_t kDefaultDepth = 4096;
/// What a context or a ubatch is not cut below when advice is sought.
constexpr int64_t kLeastContext = 2048;
constexpr int64_t kLeastUbatch = 256;

struct PlanOptions {
  engine::EngineOptions engine;
  PlacementFlags placement;
  SamplingFlags sampling;  // read so that they are checked; they change nothing here
  int64_t depth = kDefaultDepth;
  bool json = false;
};

placement::ModelShape shape_of(const model::Hparams& h) {
  return {.n_layers = h.n_layers,
          .n_file_blocks = h.n_layers + h.n_mtp_layers,
          .recurrent = h.recurrent,
          .n_vocab = h.n_vocab,
          .hidden = h.hidden,
          .n_experts = h.n_experts,
          .n_experts_used = h.n_experts_used,
          .expert_ff = h.expert_ff,
          .shared_ff = h.shared_ff,
          .n_heads = h.n_heads,
          .head_dim = h.head_dim,
          .in_columns = std::max(model::DeltaColumns(h).total, model::AttentionColumns(h).total),
          .mixed_columns = std::max(h.n_v_heads * h.dv, h.n_heads * h.head_dim),
          .state_values = h.n_v_heads * h.dk * h.dv};
}

/// What runs with some options need besides weights; the same questions as loading asks, without loading.
class Demands {
 public:
  Demands(const gguf::File& file, Isa isa) : file_(file), isa_(isa) {}

  Result<placement::Demand> of(const engine::EngineOptions& options) const {
    const model::ModelOptions model_options{.isa = isa_,
                                            .ubatch_size = engine::batch_tokens(options),
                                            .k_type = options.k_type,
                                            .v_type = options.v_type,
                                            .load_mode = options.load_mode,
                                            .logit_rows = options.n_parallel};
    PACKMULE_TRY(const model::ModelSizes sizes, model::Model::sizes(file_, model_options, options.n_threads));
    const cache::Layout& layout = sizes.cache_layout;
    const auto n_recurrent = static_cast<int64_t>(layout.recurrent.size()) - layout.n_attention_layers();
    placement::Demand demand;
    demand.n_ctx = options.ctx_size;
    demand.ubatch = options.ubatch_size;
    demand.n_sequences = options.n_parallel;
    demand.kept_bytes = options.cache_ram_bytes.value_or(0);
    demand.page_tokens = cache::kPageTokens;
    demand.kv_row_bytes = layout.n_kv_heads * (layout.k_row_bytes() + layout.v_row_bytes());
    demand.kv_in_blocks =
        quant::format_of(options.k_type).block_elems > 1 || quant::format_of(options.v_type).block_elems > 1;
    demand.state_bytes = n_recurrent > 0 ? layout.recurrent_bytes() / n_recurrent : 0;
    demand.host_compute_bytes = sizes.activation_bytes;
    demand.weights_in_memory =
        options.load_mode == model::LoadMode::kCopy || options.load_mode == model::LoadMode::kRepack;
    return demand;
  }

  /// Flags that ask for less, for the case that it does not fit.
  std::vector<std::vector<placement::Alternative>> smaller_than(const engine::EngineOptions& options) const {
    std::vector<std::vector<placement::Alternative>> lists;
    const auto add = [&](std::string flags, const engine::EngineOptions& changed) {
      if (auto demand = of(changed)) lists.back().push_back({std::move(flags), *demand});
    };
    engine::EngineOptions changed = options;
    lists.emplace_back();
    for (const auto& [type, name] :
         {std::pair(quant::Type::kQ8_0, "q8_0"), std::pair(quant::Type::kQ4_0, "q4_0")}) {
      changed.k_type = changed.v_type = type;
      add(fmt::format("-ctk {} -ctv {}", name, name), changed);
    }
    changed = options;
    lists.emplace_back();
    while (changed.ctx_size / 2 >= kLeastContext) {
      changed.ctx_size /= 2;
      changed.ubatch_size = std::min(changed.ubatch_size, changed.ctx_size);
      add(fmt::format("-c {}", changed.ctx_size), changed);
    }
    changed = options;
    lists.emplace_back();
    while (changed.ubatch_size / 2 >= kLeastUbatch) {
      changed.ubatch_size /= 2;
      add(fmt::format("-ub {}", changed.ubatch_size), changed);
    }
    if (options.load_mode == model::LoadMode::kCopy || options.load_mode == model::LoadMode::kRepack) {
      changed = options;
      changed.load_mode = model::LoadMode::kMmap;
      lists.emplace_back();
      add("--load-mode mmap (what memory has no room for is read from the disk)", changed);
    }
    return lists;
  }

 private:
  const gguf::File& file_;
  Isa isa_;
};

/// The formats that a token's weights are read in, the one with most bytes first.
std::vector<quant::Type> formats_in_use(const placement::Inventory& inventory) {
  std::map<quant::Type, int64_t> bytes;
  for (const placement::Tensor& tensor : inventory.tensors)
    if (tensor.part != placement::Part::kUnused && tensor.part != placement::Part::kEmbedding &&
        tensor.part != placement::Part::kMixerSmall)
      bytes[tensor.type] += tensor.bytes_per_token;
  std::vector<quant::Type> types;
  for (const auto& [type, _] : bytes) types.push_back(type);
  std::ranges::stable_sort(types, std::greater{}, [&](quant::Type type) { return bytes[type]; });
  return types;
}

/// Puts measured speeds in the place of the host's defaults; a speed that a flag gives stays.
Result<calibration::Outcome> measure_host(const PlacementFlags& flags, const model::Hparams& h,
                                          const engine::EngineOptions& options, Isa isa,
                                          const placement::Inventory& inventory, placement::Processor& host) {
  const calibration::Wanted wanted{
      .weights = formats_in_use(inventory),
      .repacked =
          options.load_mode == model::LoadMode::kAuto || options.load_mode == model::LoadMode::kRepack,
      .attention = {options.k_type, options.v_type, h.head_dim, h.n_heads / h.n_kv_heads}};
  PACKMULE_TRY(const calibration::Outcome outcome,
               calibration::calibrate_host(wanted, isa, options.n_threads, flags.calibrate,
                                           calibration::default_speed_file(), host));
  if (!outcome.warning.empty()) fmt::print(stderr, "warning: {}\n", outcome.warning);
  if (flags.host_gb_s) host.read_bytes_s = *flags.host_gb_s * 1e9;
  return outcome;
}

Status print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return fail(ErrorKind::kIo, "cannot write to the standard output: {}", std::strerror(errno));
  return {};
}

Status plan(const PlanOptions& options) {
  PACKMULE_TRY(const Isa isa, choose_isa());
  PACKMULE_TRY(const gguf::File file, gguf::File::open(options.engine.model_path));
  PACKMULE_TRY(const model::Hparams hparams, model::Hparams::read(file));
  const engine::EngineOptions engine = engine::filled_in(options.engine, hparams.context_length);
  const Demands demands(file, isa);

  PlanReport report;
  report.model_path = file.path();
  report.model_name = hparams.name;
  report.k_type = quant::format_of(engine.k_type).name;
  report.v_type = quant::format_of(engine.v_type).name;
  report.n_threads = engine.n_threads;
  report.isa = isa_name(isa);
  placement::Request& request = report.request;
  PACKMULE_TRY(request.demand, demands.of(engine));
  request.inventory = placement::Inventory::make(shape_of(hparams), file.tensors());
  PACKMULE_TRY(request.machine, machine_of(options.placement, engine.n_threads));
  PACKMULE_TRY(report.calibration, measure_host(options.placement, hparams, engine, isa, request.inventory,
                                                request.machine.processors[placement::kHost]));
  PACKMULE_TRY(request.rules, rules_of(options.placement, request.machine));
  request.depth = std::min(options.depth, engine.ctx_size - 1);
  auto made = placement::plan(request);
  if (!made && made.error().kind == ErrorKind::kOutOfMemory) {
    // Only now: each way of asking for less is a look at the whole file.
    request.alternatives = demands.smaller_than(engine);
    made = placement::plan(request);
  }
  PACKMULE_TRY(report.plan, std::move(made));
  report.rules = placement::explain(request, report.plan);
  if (!report.rules.empty()) {
    placement::Request free = request;
    free.rules = {};
    free.wants_advice = false;
    if (const auto without = placement::plan(free)) report.decode_without_rules_s = without->decode.total();
  }
  return print(options.json ? plan_json(report) : plan_text(report));
}

/// Errors of the flags among each other are errors of the command line, found before the file is opened.
void check_together(const PlacementFlags& flags) {
  const auto machine = machine_of(flags, 1);
  if (!machine) throw CLI::ValidationError(machine.error().message);
  if (const auto rules = rules_of(flags, *machine); !rules) throw CLI::ValidationError(rules.error().message);
}

}  // namespace

void add_plan(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* verb =
      app.add_subcommand("plan", "Show what would go where and how fast it would be, without loading");
  add_engine_flags(*verb, options->engine);
  add_context_flag(*verb, options->engine);
  add_rule_flags(*verb, options->placement);
  add_machine_flags(*verb, options->placement);
  add_sampling_flags(*verb, options->sampling);
  add_parallel_flags(*verb, options->engine);
  add_accepted_flags(*verb);
  verb->add_option("-d,--depth", options->depth,
                   "Tokens in the cache that the speed of decoding is judged at")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print JSON, with every tensor");
  for (const char* flag : {"--host", "--port", "--api-key", "-a,--alias", "--chat-template-file"})
    verb->add_option_function<std::string>(
            flag, [](const std::string&) {}, "Of the server (accepted, changes nothing)")
        ->group("Server");
  verb->callback([options, &chosen] {
    check_together(options->placement);
    chosen = [options] { return plan(*options); };
  });
}

}  // namespace packmule::cli
