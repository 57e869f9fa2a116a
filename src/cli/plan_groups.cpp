// Many tensors in few lines.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "cli/plan_report.h"

namespace packmule::cli {
namespace {

using placement::Decision;
using placement::Part;
using placement::Where;

/// Lines of the table, in the order of the forward pass.
enum Row { kEmbedding, kMixer, kCache, kRouter, kShared, kGate, kUp, kDown, kOutput, kNoRow };

/// Rows of one family that share place, decision and layers are one line.
enum Family { kAlone, kBeside, kExperts };

Row row_of(Part part) {
  switch (part) {
    case Part::kEmbedding:
      return kEmbedding;
    case Part::kMixerIn:
    case Part::kMixerSmall:
    case Part::kMixerOut:
      return kMixer;
    case Part::kRouter:
      return kRouter;
    case Part::kShared:
      return kShared;
    case Part::kExpertGate:
      return kGate;
    case Part::kExpertUp:
      return kUp;
    case Part::kExpertDown:
      return kDown;
    case Part::kOutput:
      return kOutput;
    case Part::kUnused:
      break;
  }
  return kNoRow;
}

std::string by_words(int by, const PlanReport& report) {
  if (by >= 0) return report.request.rules.overrides[static_cast<size_t>(by)].words;
  if (by == Decision::kGpuLayers) return "-ngl";
  return "";
}

struct Collected {
  std::set<int> layers;
  int64_t bytes = 0;
};
using Key = std::tuple<int, Where, std::string>;  // row, place, decision

std::map<Key, Collected> collect(const PlanReport& report) {
  const placement::Inventory& inventory = report.request.inventory;
  std::map<Key, Collected> groups;
  for (size_t t = 0; t < inventory.tensors.size(); ++t) {
    const placement::Tensor& tensor = inventory.tensors[t];
    const Row row = row_of(tensor.part);
    if (row == kNoRow) continue;
    const Where where = report.plan.placement.of_tensor[t];
    Collected& group = groups[{row, where, by_words(report.plan.decided_by[t], report)}];
    if (tensor.layer >= 0) group.layers.insert(tensor.layer);
    group.bytes += placement::bytes_at(tensor, where);
  }
  const placement::Rules& rules = report.request.rules;
  const char* by = rules.kv_on_host ? "--no-kv-offload" : rules.n_gpu_layers ? "-ngl" : "";
  for (size_t layer = 0; layer < report.plan.placement.home.size(); ++layer) {
    Collected& group = groups[{kCache, report.plan.placement.home[layer], by}];
    group.layers.insert(static_cast<int>(layer));
    group.bytes += placement::cache_bytes(inventory.shape, report.request.demand, static_cast<int>(layer));
  }
  return groups;
}

Family family_of(int row) {
  if (row == kRouter || row == kShared) return kBeside;
  return row == kGate || row == kUp || row == kDown ? kExperts : kAlone;
}

/// Name of a line that holds some rows of one family; `rows` has a bit for each.
std::string line_words(unsigned rows, bool fused) {
  const auto has = [&](Row row) { return (rows & (1u << row)) != 0; };
  if (has(kEmbedding)) return "embedding";
  if (has(kMixer)) return "attention and DeltaNet";
  if (has(kCache)) return "KV cache and recurrent states";
  if (has(kOutput)) return "output";
  if (has(kRouter) || has(kShared))
    return !has(kShared) ? "router" : has(kRouter) ? "router and shared expert" : "shared expert";
  std::vector<std::string_view> matrices;
  if (has(kGate)) matrices.push_back(fused ? "gate and up in one" : "gate");
  if (has(kUp)) matrices.push_back("up");
  if (has(kDown)) matrices.push_back("down");
  return fmt::format("experts ({})", fmt::join(matrices, ", "));
}

}  // namespace

std::vector<PlacedGroup> placed_groups(const PlanReport& report) {
  const placement::Inventory& inventory = report.request.inventory;
  const bool fused = std::ranges::any_of(inventory.tensors, [](const placement::Tensor& tensor) {
    return tensor.name.find("ffn_gate_up_exps") != std::string::npos;
  });
  std::vector<PlacedGroup> groups;
  std::vector<std::pair<Family, unsigned>> lines;  // of groups: family and rows
  for (const auto& [key, group] : collect(report)) {
    const auto& [row, where, by] = key;
    const Family family = family_of(row);
    const std::vector<int> layers(group.layers.begin(), group.layers.end());
    size_t i = 0;
    while (i < groups.size() && (family == kAlone || lines[i].first != family || groups[i].where != where ||
                                 groups[i].by != by || groups[i].layers != layers))
      ++i;
    if (i == groups.size()) {
      const bool all_layers = static_cast<int64_t>(layers.size()) == inventory.shape.n_layers;
      groups.push_back({.where = where, .by = by, .layers = layers, .all_layers = all_layers});
      lines.emplace_back(family, 0);
    }
    groups[i].bytes += group.bytes;
    lines[i].second |= 1u << row;
  }
  for (size_t i = 0; i < groups.size(); ++i) groups[i].what = line_words(lines[i].second, fused);
  if (const int64_t kept = report.request.demand.kept_bytes; kept > 0)
    groups.push_back(
        {.what = "past conversations", .where = placement::kHost, .by = "--cache-ram", .bytes = kept});
  return groups;
}

std::vector<Bound> bounds(const placement::Machine& machine, const placement::Seconds& seconds) {
  const double total = seconds.total();
  std::vector<Bound> found;
  const auto add = [&](std::string what, double part) {
    if (part >= 0.01 * total) found.push_back({std::move(what), part / total});
  };
  for (size_t p = 0; p < machine.processors.size(); ++p) {
    add(machine.processors[p].name + " memory", seconds.memory[p]);
    add(machine.processors[p].name + " arithmetic", seconds.arithmetic[p]);
  }
  add("disk", seconds.disk);
  add("PCIe", seconds.link);
  add("waiting for devices", seconds.hops);
  add("fixed costs", seconds.phases);
  std::stable_sort(found.begin(), found.end(),
                   [](const Bound& a, const Bound& b) { return a.share > b.share; });
  return found;
}

}  // namespace packmule::cli
