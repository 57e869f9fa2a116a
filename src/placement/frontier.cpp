#include "placement/frontier.h"

#include <algorithm>
#include <array>
#include <limits>

namespace packmule::placement {
namespace {

/// A way through the layers so far.
struct Label {
  int64_t bytes = 0;
  double seconds = 0;
  double least_seconds = 0;
  int parent = -1;  // index into all labels
  uint8_t way = 0;  // of the last layer, or of the output
  uint8_t at = 0;   // where the activations are
};

constexpr uint8_t kCore = 1;
constexpr uint8_t kExperts = 2;
constexpr uint8_t kOutput = 4;
constexpr int kRoot = -1;

/// One way of a layer: what it adds, and what it takes when entered from each processor.
struct Way {
  uint8_t way = 0;
  int64_t bytes = 0;
  std::array<double, kMaxProcessors> seconds{};
  std::array<double, kMaxProcessors> least_seconds{};
  std::array<uint8_t, kMaxProcessors> exit{};
};

class Search {
 public:
  Search(const Inventory& inventory, const Machine& machine, const Demand& demand, const Placement& base,
         const Freedom& freedom, Where device, int64_t most_bytes, const Pass& pass)
      : inventory_(inventory),
        machine_(machine),
        demand_(demand),
        base_(base),
        freedom_(freedom),
        device_(device),
        n_buckets_(static_cast<size_t>(most_bytes / kBucketBytes) + 1),
        pass_(pass),
        memory_pass_(pass),
        cost_(inventory, machine, demand) {
    memory_pass_.share_on_disk = 0;
  }

  std::vector<Candidate> run() {
    Where at = kHost;
    const double start = cost_.embedding(base_, pass_, at).total();
    const double least_start = cost_.embedding(base_, memory_pass_, at).total();
    labels_.push_back({0, start, least_start, kRoot, 0, static_cast<uint8_t>(at)});
    open_ = {0};
    for (int layer = 0; layer < inventory_.shape.n_layers; ++layer) extend(ways_of_layer(layer));
    extend(ways_of_head());
    return candidates();
  }

 private:
  /// Bytes that a placement has on the device beyond `base`: of the tensors given, and of a layer's cache.
  int64_t added(const Placement& placement, const std::vector<int>& tensors, int layer) const {
    int64_t bytes = 0;
    for (const int t : tensors)
      if (placement.of_tensor[static_cast<size_t>(t)] != base_.of_tensor[static_cast<size_t>(t)])
        bytes += bytes_at(inventory_.tensors[static_cast<size_t>(t)], device_);
    if (layer >= 0 && placement.home[static_cast<size_t>(layer)] != base_.home[static_cast<size_t>(layer)])
      bytes += cache_bytes(inventory_.shape, demand_, layer);
    return bytes;
  }

  std::vector<Way> ways_of_layer(int layer) const {
    std::vector<Way> ways;
    for (const uint8_t way : {0, +kCore, +kExperts, kCore | kExperts}) {
      Placement placement = base_;
      if ((way & kCore) != 0) move_core(inventory_, freedom_, layer, device_, placement);
      if ((way & kExperts) != 0) move_experts(inventory_, freedom_, layer, device_, placement);
      Way& w = ways.emplace_back();
      w.way = way;
      w.bytes = added(placement, inventory_.of_layer[static_cast<size_t>(layer)], layer);
      for (size_t p = 0; p < machine_.processors.size(); ++p) {
        auto at = static_cast<Where>(p);
        w.seconds[p] = cost_.layer(placement, layer, pass_, at).total();
        w.exit[p] = static_cast<uint8_t>(at);
        at = static_cast<Where>(p);
        w.least_seconds[p] = cost_.layer(placement, layer, memory_pass_, at).total();
      }
    }
    return ways;
  }

  std::vector<Way> ways_of_head() const {
    std::vector<Way> ways;
    for (const uint8_t way : {uint8_t{0}, kOutput}) {
      Placement placement = base_;
      if (way == kOutput) move_output(inventory_, freedom_, device_, placement);
      Way& w = ways.emplace_back();
      w.way = way;
      w.bytes = added(placement, inventory_.output, -1);
      // The logits end on the host: labels of all processors meet.
      for (size_t p = 0; p < machine_.processors.size(); ++p) {
        w.seconds[p] = cost_.head(placement, pass_, static_cast<Where>(p)).total();
        w.least_seconds[p] = cost_.head(placement, memory_pass_, static_cast<Where>(p)).total();
      }
    }
    return ways;
  }

  void extend(const std::vector<Way>& ways) {
    const size_t n_at = machine_.processors.size();
    // The fastest label of each bucket and each processor, -1 for none.
    std::vector<int> best(n_buckets_ * n_at, -1);
    std::vector<Label> made;
    for (const int index : open_) {
      const Label from = labels_[static_cast<size_t>(index)];
      for (const Way& way : ways) {
        const int64_t bytes = from.bytes + way.bytes;
        const auto bucket = static_cast<size_t>(bytes / kBucketBytes);
        if (bucket >= n_buckets_) continue;
        const double seconds = from.seconds + way.seconds[from.at];
        int& held = best[bucket * n_at + way.exit[from.at]];
        if (held >= 0) {
          const Label& other = made[static_cast<size_t>(held)];
          if (other.seconds < seconds || (other.seconds == seconds && other.bytes <= bytes)) continue;
        }
        const Label label{bytes, seconds, from.least_seconds + way.least_seconds[from.at],
                          index, way.way, way.exit[from.at]};
        if (held >= 0) {
          made[static_cast<size_t>(held)] = label;
        } else {
          held = static_cast<int>(made.size());
          made.push_back(label);
        }
      }
    }
    // Of labels at the same processor one that takes more bytes must be faster.
    open_.clear();
    for (size_t at = 0; at < n_at; ++at) {
      double fastest = std::numeric_limits<double>::infinity();
      for (size_t bucket = 0; bucket < n_buckets_; ++bucket) {
        const int held = best[bucket * n_at + at];
        if (held < 0 || made[static_cast<size_t>(held)].seconds >= fastest) continue;
        fastest = made[static_cast<size_t>(held)].seconds;
        open_.push_back(static_cast<int>(labels_.size()));
        labels_.push_back(made[static_cast<size_t>(held)]);
      }
    }
  }

  std::vector<Candidate> candidates() const {
    std::vector<Candidate> found;
    for (const int end : open_) {
      Candidate& candidate = found.emplace_back();
      candidate.device_bytes = labels_[static_cast<size_t>(end)].bytes;
      candidate.seconds = labels_[static_cast<size_t>(end)].seconds;
      candidate.least_seconds = labels_[static_cast<size_t>(end)].least_seconds;
      candidate.placement = base_;
      auto layer = static_cast<int>(inventory_.shape.n_layers);  // the output comes after the last
      for (int at = end; at != kRoot; at = labels_[static_cast<size_t>(at)].parent, --layer) {
        const uint8_t way = labels_[static_cast<size_t>(at)].way;
        if ((way & kOutput) != 0) move_output(inventory_, freedom_, device_, candidate.placement);
        if ((way & kCore) != 0) move_core(inventory_, freedom_, layer, device_, candidate.placement);
        if ((way & kExperts) != 0) move_experts(inventory_, freedom_, layer, device_, candidate.placement);
      }
    }
    return found;
  }

  const Inventory& inventory_;
  const Machine& machine_;
  const Demand& demand_;
  const Placement& base_;
  const Freedom& freedom_;
  Where device_;
  size_t n_buckets_;
  Pass pass_;
  Pass memory_pass_;  // the same with nothing on the disk
  CostModel cost_;
  std::vector<Label> labels_;
  std::vector<int> open_;  // labels that can be gone on from
};

}  // namespace

void move_core(const Inventory& inventory, const Freedom& freedom, int layer, Where to,
               Placement& placement) {
  for (const int t : inventory.of_layer[static_cast<size_t>(layer)])
    if (freedom.tensor[static_cast<size_t>(t)] && !is_expert(inventory.tensors[static_cast<size_t>(t)].part))
      placement.of_tensor[static_cast<size_t>(t)] = to;
  if (freedom.home[static_cast<size_t>(layer)]) placement.home[static_cast<size_t>(layer)] = to;
}

void move_experts(const Inventory& inventory, const Freedom& freedom, int layer, Where to,
                  Placement& placement) {
  for (const int t : inventory.of_layer[static_cast<size_t>(layer)])
    if (freedom.tensor[static_cast<size_t>(t)] && is_expert(inventory.tensors[static_cast<size_t>(t)].part))
      placement.of_tensor[static_cast<size_t>(t)] = to;
}

void move_output(const Inventory& inventory, const Freedom& freedom, Where to, Placement& placement) {
  for (const int t : inventory.output)
    if (freedom.tensor[static_cast<size_t>(t)]) placement.of_tensor[static_cast<size_t>(t)] = to;
}

std::vector<Candidate> frontier(const Inventory& inventory, const Machine& machine, const Demand& demand,
                                const Placement& base, const Freedom& freedom, Where device,
                                int64_t most_bytes, const Pass& pass) {
  return Search(inventory, machine, demand, base, freedom, device, most_bytes, pass).run();
}

}  // namespace packmule::placement
