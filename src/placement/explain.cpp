#include "placement/explain.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "placement/pattern_mistakes.h"
#include "placement/words.h"

namespace packmule::placement {
namespace {

/// "12 to 47" without the word before it.
std::string numbers(std::span<const int> layers) {
  const std::string words = layer_words(layers);
  return words.substr(words.find(' ') + 1);
}

/// "experts (gate, up, down)", "shared experts", ... in the order of the layers' parts.
std::string kinds_of(const std::vector<int>& tensors, const Inventory& inventory) {
  std::vector<std::string> kinds;
  std::set<std::string_view> seen;
  std::array<bool, 3> of_experts{};
  bool fused = false;
  for (const int t : tensors) {
    const Tensor& tensor = inventory.tensors[static_cast<size_t>(t)];
    if (is_expert(tensor.part)) {
      of_experts[static_cast<size_t>(tensor.part) - static_cast<size_t>(Part::kExpertGate)] = true;
      fused |= tensor.name.find("gate_up") != std::string::npos;
    }
    if (seen.insert(tensor.kind).second) kinds.emplace_back(tensor.kind);
  }
  std::vector<std::string_view> matrices;
  if (of_experts[0]) matrices.push_back(fused ? "gate and up in one" : "gate");
  if (of_experts[1]) matrices.push_back("up");
  if (of_experts[2]) matrices.push_back("down");
  for (std::string& kind : kinds)
    if (kind == "experts") kind = fmt::format("experts ({})", fmt::join(matrices, ", "));
  return fmt::format("{}", fmt::join(kinds, ", "));
}

void find_layers(const std::vector<int>& tensors, const Inventory& inventory, RuleReport& report) {
  std::set<int> layers;
  for (const int t : tensors)
    if (const int layer = inventory.tensors[static_cast<size_t>(t)].layer; layer >= 0) layers.insert(layer);
  report.layers.assign(layers.begin(), layers.end());
}

/// Layers of the trunk that have experts the rule leaves alone: what people count when they tune.
std::string left_out(const RuleReport& report, const Inventory& inventory) {
  std::vector<int> others;
  for (int layer = 0; layer < inventory.shape.n_layers; ++layer)
    if (!std::binary_search(report.layers.begin(), report.layers.end(), layer)) others.push_back(layer);
  if (others.empty() || report.layers.empty()) return "";
  return fmt::format("; not {} {} ({})", others.size(), others.size() == 1 ? "layer" : "layers",
                     numbers(others));
}

class Explainer {
 public:
  Explainer(const Request& request, const Plan& plan)
      : request_(request), inventory_(request.inventory), plan_(plan) {}

  RuleReport override_report(int index) const {
    const Rule& rule = request_.rules.overrides[static_cast<size_t>(index)];
    const std::vector<int>& matched = plan_.matches.of_rule[static_cast<size_t>(index)];
    RuleReport report;
    report.rule = rule.words;
    report.n_tensors = static_cast<int64_t>(matched.size());
    find_layers(matched, inventory_, report);
    int64_t n_unused = 0;
    std::map<int, int64_t> taken_by;  // earlier rule -> tensors
    for (const int t : matched) {
      const Tensor& tensor = inventory_.tensors[static_cast<size_t>(t)];
      if (const int first = plan_.matches.first[static_cast<size_t>(t)]; first != index) {
        ++taken_by[first];
        continue;
      }
      ++report.n_effective;
      n_unused += tensor.part == Part::kUnused;
      report.effective_bytes += bytes_at(tensor, rule.where);
    }
    const Processor& target = request_.machine.at(rule.where);
    if (matched.empty()) {
      report.matches = "nothing";
      report.warnings.emplace_back("it matches no tensor of this file and changes nothing");
    } else {
      report.matches = fmt::format(
          "{}{}, {}, {} to {}{}",
          report.layers.empty()
              ? ""
              : fmt::format("{} ({}): ", count_words(static_cast<int64_t>(report.layers.size()), "layer"),
                            numbers(report.layers)),
          count_words(report.n_tensors, "tensor"), kinds_of(matched, inventory_),
          gigabytes(report.effective_bytes), target.name, left_out(report, inventory_));
    }
    if (rule.written_by_user) {
      const auto mistakes = pattern_mistakes(rule.pattern, matched, inventory_);
      report.warnings.insert(report.warnings.end(), mistakes.begin(), mistakes.end());
    }
    for (const auto& [earlier, n] : taken_by) {
      const std::string& words = request_.rules.overrides[static_cast<size_t>(earlier)].words;
      report.warnings.push_back(
          n == report.n_tensors
              ? fmt::format("an earlier rule, {}, matches all of its tensors: it changes nothing",
                            pattern_words(words))
              : fmt::format("an earlier rule, {}, takes {} of its tensors", pattern_words(words), n));
    }
    if (n_unused > 0)
      report.warnings.push_back(
          fmt::format("{} of its tensors are not loaded (multi-token prediction or unknown)", n_unused));
    warn_about_split_experts(index, report);
    if (rule.where != kHost && target.max_tensor_bytes > 0)
      for (const int t : matched)
        if (inventory_.tensors[static_cast<size_t>(t)].bytes > target.max_tensor_bytes) {
          report.warnings.push_back(
              fmt::format("{} takes at most {} bytes in one piece", target.name, target.max_tensor_bytes));
          break;
        }
    return report;
  }

  RuleReport gpu_layers_report() const {
    const ModelShape& shape = inventory_.shape;
    const int64_t n = *request_.rules.n_gpu_layers;
    const int64_t first = first_gpu_block(n, shape);
    RuleReport report;
    report.rule = fmt::format("-ngl {}", n);
    for (int64_t layer = first; layer < shape.n_layers; ++layer)
      report.layers.push_back(static_cast<int>(layer));
    for (size_t t = 0; t < inventory_.tensors.size(); ++t) {
      if (plan_.decided_by[t] != Decision::kGpuLayers || plan_.placement.of_tensor[t] == kHost) continue;
      ++report.n_effective;
      report.effective_bytes += bytes_at(inventory_.tensors[t], plan_.placement.of_tensor[t]);
    }
    report.n_tensors = report.n_effective;
    if (request_.machine.n_devices() == 0) {
      report.matches = "nothing: there is no device";
      report.warnings.emplace_back(
          "there is no device, so everything is on the CPU; --device-memory 8G imagines one");
      return report;
    }
    std::string what = n <= 0 ? "no layer"
                       : report.layers.empty()
                           ? "the output"
                           : fmt::format("{} ({}) and the output",
                                         count_words(static_cast<int64_t>(report.layers.size()), "layer"),
                                         numbers(report.layers));
    report.matches =
        fmt::format("{}: {} that no override takes, {} to the device; everything else is on the CPU", what,
                    count_words(report.n_effective, "tensor"), gigabytes(report.effective_bytes));
    if (shape.n_file_blocks > shape.n_layers && n > 0)
      report.warnings.push_back(
          fmt::format("as in llama.cpp the block of multi-token prediction counts as one of the {} layers, "
                      "and is not loaded",
                      n));
    return report;
  }

 private:
  /// Layers where the rule puts some matrices of the experts elsewhere than where the others end up.
  void warn_about_split_experts(int index, RuleReport& report) const {
    std::vector<int> split;
    for (int layer = 0; layer < inventory_.shape.n_layers; ++layer) {
      std::set<Where> places;
      bool concerns = false;
      for (const int t : inventory_.of_layer[static_cast<size_t>(layer)]) {
        if (!is_expert(inventory_.tensors[static_cast<size_t>(t)].part)) continue;
        places.insert(plan_.placement.of_tensor[static_cast<size_t>(t)]);
        concerns |= plan_.matches.first[static_cast<size_t>(t)] == index;
      }
      if (concerns && places.size() > 1) split.push_back(layer);
    }
    if (!split.empty())
      report.warnings.push_back(
          fmt::format("in {} gate, up and down of an expert are not in the same place: their activations "
                      "move in the middle of "
                      "each, and nothing overlaps",
                      layer_words(split)));
  }

  const Request& request_;
  const Inventory& inventory_;
  const Plan& plan_;
};

}  // namespace

std::vector<RuleReport> explain(const Request& request, const Plan& plan) {
  const Explainer explainer(request, plan);
  std::vector<RuleReport> reports;
  for (size_t r = 0; r < request.rules.overrides.size(); ++r)
    reports.push_back(explainer.override_report(static_cast<int>(r)));
  if (request.rules.n_gpu_layers.has_value()) reports.push_back(explainer.gpu_layers_report());
  if (request.rules.kv_on_host) {
    RuleReport& report = reports.emplace_back();
    report.rule = "--no-kv-offload";
    report.matches =
        "KV cache and recurrent states of all layers to CPU; attention and delta rule are computed there";
  }
  return reports;
}

}  // namespace packmule::placement
