// Many tensors in few lines.
#include <fmt/format.h>

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
enum Row { kEmbedding, kMixer, kCache, kMoeSmall, kGate, kUp, kDown, kOutput, kNoRow };

Row row_of(Part part) {
  switch (part) {
    case Part::kEmbedding:
      return kEmbedding;
    case Part::kMixerIn:
    case Part::kMixerSmall:
    case Part::kMixerOut:
      return kMixer;
    case Part::kRouter:
    case Part::kShared:
      return kMoeSmall;
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

/// "experts (gate, up, down)": a mask of the rows kGate, kUp and kDown.
std::string expert_words(unsigned mask, bool fused) {
  std::string words;
  const auto add = [&](Row row, const char* name) {
    if ((mask & (1u << row)) != 0) words += fmt::format("{}{}", words.empty() ? "" : ", ", name);
  };
  add(kGate, fused ? "gate and up in one" : "gate");
  add(kUp, "up");
  add(kDown, "down");
  return fmt::format("experts ({})", words);
}

}  // namespace

std::vector<PlacedGroup> placed_groups(const PlanReport& report) {
  constexpr const char* kNames[] = {"embedding",
                                    "attention and DeltaNet",
                                    "KV cache and recurrent states",
                                    "router and shared expert",
                                    "",
                                    "",
                                    "",
                                    "output"};
  const placement::Inventory& inventory = report.request.inventory;
  const bool fused = std::ranges::any_of(inventory.tensors, [](const placement::Tensor& tensor) {
    return tensor.name.find("ffn_gate_up_exps") != std::string::npos;
  });
  std::map<Key, Collected> collected = collect(report);
  std::vector<PlacedGroup> groups;
  std::vector<unsigned> masks;  // of groups: which expert matrices
  for (const auto& [key, group] : collected) {
    const auto& [row, where, by] = key;
    const std::vector<int> layers(group.layers.begin(), group.layers.end());
    const bool is_expert = row == kGate || row == kUp || row == kDown;
    if (is_expert) {
      // The matrices of the same layers in the same place for the same reason are one line.
      bool joined = false;
      for (size_t i = 0; i < groups.size() && !joined; ++i) {
        if (masks[i] == 0 || groups[i].where != where || groups[i].by != by || groups[i].layers != layers)
          continue;
        masks[i] |= 1u << row;
        groups[i].bytes += group.bytes;
        joined = true;
      }
      if (joined) continue;
    }
    PlacedGroup& made = groups.emplace_back();
    made.what = kNames[row];
    made.where = where;
    made.by = by;
    made.layers = layers;
    made.all_layers = static_cast<int64_t>(layers.size()) == inventory.shape.n_layers;
    made.bytes = group.bytes;
    masks.push_back(is_expert ? 1u << row : 0);
  }
  for (size_t i = 0; i < groups.size(); ++i)
    if (masks[i] != 0) groups[i].what = expert_words(masks[i], fused);
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
