// All placements on one device that are worth a thought.
//
// Given what is placed already (by rules, or on other devices), each layer has up to four ways: its mixer
// with its cache, router and shared expert as a whole, and its experts as a whole, each stays or goes to the
// device. A layer's time depends on its own way and on where the layer before it left the activations,
// nothing else, so the best ways are found layer by layer: for every number of bytes on the device and every
// processor where the activations can be, the least time is kept (dynamic programming). Byte counts are
// exact; of labels whose counts lie in the same kBucketBytes only the fastest is kept.
//
// Nothing here knows how much memory there is beyond `most_bytes`, which only cuts labels off, at the end of
// a bucket: a larger limit gives the same placements and more of them. That is why more memory can never lead
// to a slower plan; and why what comes out may be a bucket too large, and has to be checked.
#pragma once

#include <cstdint>
#include <vector>

#include "placement/cost.h"
#include "placement/placement.h"

namespace packmule::placement {

inline constexpr int64_t kBucketBytes = int64_t{8} << 20;

/// What the planner may still move.
struct Freedom {
  std::vector<bool> tensor;  // by index
  std::vector<bool> home;    // per layer
};

struct Candidate {
  int64_t device_bytes = 0;  // weights and caches that went to the device here
  double seconds = 0;        // of the pass
  double least_seconds = 0;  // of the pass when none of the host's weights are on the disk
  Placement placement;
};

/// Ascending in bytes, descending in seconds. Bytes are those on `device` that `base` does not have there.
[[nodiscard]] std::vector<Candidate> frontier(const Inventory& inventory, const Machine& machine,
                                              const Demand& demand, const Placement& base,
                                              const Freedom& freedom, Where device, int64_t most_bytes,
                                              const Pass& pass);

/// Moves what is free of a layer to a device; so the planner and its candidates mean the same by "whole".
void move_core(const Inventory& inventory, const Freedom& freedom, int layer, Where to, Placement& placement);
void move_experts(const Inventory& inventory, const Freedom& freedom, int layer, Where to,
                  Placement& placement);
void move_output(const Inventory& inventory, const Freedom& freedom, Where to, Placement& placement);

}  // namespace packmule::placement
