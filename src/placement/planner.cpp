#include "placement/planner.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "placement/refusal.h"

namespace packmule::placement {
namespace {

/// Shares of the host's weights on the disk that placements are searched for: none, and so many that moving
/// bytes off the host counts more than anything.
constexpr double kSearchedShares[] = {0.0, 0.5};

/// Of several devices all but the last are filled to multiples of this: the more there are, the fewer ways to
/// fill each, so that their product stays some hundred.
int64_t fill_step(size_t n_devices) {
  constexpr int64_t kMib = int64_t{1} << 20;
  return (n_devices <= 2 ? 512 : n_devices == 3 ? 2048 : n_devices == 4 ? 8192 : 16384) * kMib;
}

class Planner {
 public:
  Planner(const Request& request, Start start)
      : request_(request),
        inventory_(request.inventory),
        machine_(request.machine),
        start_(std::move(start)),
        cost_(request.inventory, request.machine, request.demand) {}

  Result<Plan> run() {
    collect();
    std::stable_sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.least_seconds < b.least_seconds;
    });
    const Candidate* best = nullptr;
    double best_seconds = std::numeric_limits<double>::infinity();
    const Candidate* closest = nullptr;
    int64_t closest_missing = std::numeric_limits<int64_t>::max();
    for (const Candidate& candidate : candidates_) {
      if (best != nullptr && candidate.least_seconds >= best_seconds) break;
      const Footprints taken = footprints(inventory_, request_.demand, candidate.placement);
      const int64_t missing =
          missing_bytes(inventory_, machine_, request_.demand, candidate.placement, taken);
      if (missing > 0) {
        if (missing < closest_missing) {
          closest = &candidate;
          closest_missing = missing;
        }
        continue;
      }
      const double seconds =
          cost_.whole(candidate.placement, decode_pass(share_on_disk(machine_, taken))).total();
      if (seconds < best_seconds) {
        best = &candidate;
        best_seconds = seconds;
      }
    }
    if (best != nullptr) return finish(best->placement, request_.demand);
    Request without = request_;
    without.demand.streaming.allowed = false;
    const Footprints taken = footprints(inventory_, without.demand, closest->placement);
    if (missing_bytes(inventory_, machine_, without.demand, closest->placement, taken) == 0)
      return finish(closest->placement, without.demand);
    return refuse(without, closest->placement);
  }

 private:
  [[nodiscard]] Pass decode_pass(double share) const {
    return {.n_tokens = 1, .depth = request_.depth, .share_on_disk = share};
  }

  void add(Placement placement) {
    const double seconds = cost_.whole(placement, decode_pass(0)).total();
    candidates_.push_back({0, seconds, seconds, std::move(placement)});
  }

  void collect() {
    add(start_.placement);
    std::vector<Where> devices;
    for (Where d = 1; d <= machine_.n_devices(); ++d) {
      devices.push_back(d);
      add_n_cpu_moe(d);
    }
    std::stable_sort(devices.begin(), devices.end(), [&](Where a, Where b) {
      return machine_.at(a).read_bytes_s > machine_.at(b).read_bytes_s;
    });
    if (devices.empty()) return;
    for (const double share : kSearchedShares) fill(start_.placement, start_.freedom, devices, 0, share);
  }

  /// What --n-cpu-moe N gives for each N, the number of all layers among them: that is --cpu-moe.
  void add_n_cpu_moe(Where device) {
    Placement placement = start_.placement;
    move_output(inventory_, start_.freedom, device, placement);
    const int n_layers = static_cast<int>(inventory_.shape.n_layers);
    for (int layer = 0; layer < n_layers; ++layer)
      move_core(inventory_, start_.freedom, layer, device, placement);
    add(placement);
    for (int layer = n_layers - 1; layer >= 0; --layer) {
      move_experts(inventory_, start_.freedom, layer, device, placement);
      add(placement);
    }
  }

  /// Placements on devices[index] and on those after it, over `base`.
  void fill(const Placement& base, const Freedom& freedom, const std::vector<Where>& devices, size_t index,
            double share) {
    const Where device = devices[index];
    const int64_t budget = machine_.at(device).budget_bytes();
    std::vector<Candidate> found =
        frontier(inventory_, machine_, request_.demand, base, freedom, device, budget, decode_pass(share));
    if (index + 1 == devices.size()) {
      std::move(found.begin(), found.end(), std::back_inserter(candidates_));
      return;
    }
    const int64_t step = fill_step(devices.size());
    const int64_t fixed = device_compute_bytes(inventory_.shape, request_.demand);
    size_t next = 0;
    for (int64_t room = 0; room <= budget; room += step) {
      const size_t begin = next;
      while (next < found.size() && found[next].device_bytes + fixed <= room) ++next;
      if (next == begin && room > 0) continue;  // nothing that the step before has not had
      const Placement& chosen = next == 0 ? base : found[next - 1].placement;
      fill(chosen, left(freedom, base, chosen), devices, index + 1, share);
    }
  }

  /// What is still free once `chosen` differs from `base`.
  static Freedom left(Freedom freedom, const Placement& base, const Placement& chosen) {
    for (size_t t = 0; t < freedom.tensor.size(); ++t)
      if (base.of_tensor[t] != chosen.of_tensor[t]) freedom.tensor[t] = false;
    for (size_t layer = 0; layer < freedom.home.size(); ++layer)
      if (base.home[layer] != chosen.home[layer]) freedom.home[layer] = false;
    return freedom;
  }

  Plan finish(const Placement& placement, const Demand& demand) {
    const CostModel cost(inventory_, machine_, demand);
    Plan plan;
    plan.placement = placement;
    plan.decided_by = std::move(start_.decided_by);
    plan.matches = std::move(start_.matches);
    plan.footprints = footprints(inventory_, demand, placement);
    plan.share_on_disk = share_on_disk(machine_, plan.footprints);
    plan.depth = request_.depth;
    Pass pass = decode_pass(plan.share_on_disk);
    plan.decode = cost.whole(placement, pass);
    pass.depth = std::max<int64_t>(0, request_.demand.n_ctx - 1);
    plan.decode_full = cost.whole(placement, pass);
    plan.prefill_tokens = std::min(request_.demand.ubatch, request_.demand.n_ctx);
    pass.depth = 0;
    pass.n_tokens = plan.prefill_tokens;
    plan.prefill = cost.whole(placement, pass);
    plan.has_ring = demand.stream_bytes() > 0;
    for (int layer = 0; layer < inventory_.shape.n_layers; ++layer)
      plan.stream_from.push_back(cost.stream_threshold(placement, layer, plan.share_on_disk));
    return plan;
  }

  const Request& request_;
  const Inventory& inventory_;
  const Machine& machine_;
  Start start_;
  CostModel cost_;
  std::vector<Candidate> candidates_;
};

}  // namespace

Result<Start> start_of(const Request& request) {
  const Inventory& inventory = request.inventory;
  const ModelShape& shape = inventory.shape;
  const bool has_devices = request.machine.n_devices() > 0;
  const auto& n_gpu_layers = request.rules.n_gpu_layers;
  Start start;
  PACKMULE_TRY(start.matches, match(request.rules, inventory));
  const auto by_gpu_layers = [&](int64_t block) {
    return gpu_of_block(block, *n_gpu_layers, shape, request.machine);
  };
  for (size_t t = 0; t < inventory.tensors.size(); ++t) {
    const Tensor& tensor = inventory.tensors[t];
    Where where = kHost;
    int by = Decision::kPlanner;
    if (tensor.part == Part::kUnused) {
      by = Decision::kFixed;
    } else if (const int rule = start.matches.first[t]; rule >= 0) {
      where = request.rules.overrides[static_cast<size_t>(rule)].where;
      by = rule;
    } else if (tensor.part == Part::kEmbedding) {
      by = Decision::kFixed;  // a token reads one row of it: memory of a device would be wasted
    } else if (n_gpu_layers.has_value()) {
      where = by_gpu_layers(tensor.part == Part::kOutput ? shape.n_file_blocks : tensor.layer);
      by = Decision::kGpuLayers;
    }
    start.placement.of_tensor.push_back(where);
    start.decided_by.push_back(by);
    start.freedom.tensor.push_back(by == Decision::kPlanner && has_devices);
  }
  for (int64_t layer = 0; layer < shape.n_layers; ++layer) {
    const bool fixed = request.rules.kv_on_host || n_gpu_layers.has_value();
    start.placement.home.push_back(request.rules.kv_on_host || !fixed ? kHost : by_gpu_layers(layer));
    start.freedom.home.push_back(!fixed && has_devices);
  }
  return start;
}

Result<Plan> plan(const Request& request) {
  PACKMULE_TRY(Start start, start_of(request));
  return Planner(request, std::move(start)).run();
}

}  // namespace packmule::placement
