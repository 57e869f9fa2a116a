// From what there is and what is asked for to where everything goes.
//
// A pure function: the same request gives the same plan. Of the placements that keep the user's rules and fit
// every memory it takes the one with the least predicted time for a decoded token at `depth`.
//
// Candidates are: everything free on the host; for each device what --cpu-moe and --n-cpu-moe N would give
// with the rest on that device; and the placements of frontier.h, which for one device are the best there are
// within its model. With several devices the fastest is filled first, to each multiple of a step, and the
// others from what is left: good, not the best there is. Which candidates are looked at depends on memory
// only by leaving out those that do not fit, so more memory never predicts fewer tokens a second.
//
// What streaming experts takes is reserved: a plan that fits only without it is looked at when nothing fits
// with it, and then of the candidates the one that is nearest to fitting.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "placement/cost.h"
#include "placement/frontier.h"
#include "placement/placement.h"
#include "placement/rules.h"

namespace packmule::placement {

/// Flags that would ask for less, and what would be asked for with them: tried when a request does not fit.
struct Alternative {
  std::string flags;  // "-ctk q8_0 -ctv q8_0"
  Demand demand;
};

struct Request {
  Inventory inventory;
  Machine machine;
  Demand demand;
  Rules rules;
  int64_t depth = 0;  // tokens in the cache while decoding
  /// Of each list, which goes from asking for little less to much less, the first that fits is named.
  std::vector<std::vector<Alternative>> alternatives;
  bool wants_advice = true;  // in the error when it does not fit
};

/// Who said where something goes.
struct Decision {
  static constexpr int kPlanner = -1;    // it was free
  static constexpr int kGpuLayers = -2;  // -ngl
  static constexpr int kFixed = -3;      // the embedding stays on the CPU, unused tensors nowhere
};

struct Plan {
  Placement placement;
  std::vector<int> decided_by;  // per tensor: index of an override, or one of Decision
  Matches matches;              // of the overrides
  Footprints footprints{};
  double share_on_disk = 0;
  int64_t depth = 0;
  Seconds decode;       // one token after `depth` others
  Seconds decode_full;  // one token in a full context
  Seconds prefill;      // a ubatch of a new sequence
  int64_t prefill_tokens = 0;
  /// Per layer: tokens of a ubatch from which on its experts are streamed to a device (cost.h); 0: never.
  std::vector<int64_t> stream_from;
  bool has_ring = false;  // the footprints hold what streaming takes
};

/// An error (kOutOfMemory) when nothing fits: what is needed where, what there is, and which flags would make
/// it fit. Nothing has been loaded by then.
[[nodiscard]] Result<Plan> plan(const Request& request);

/// Placement with every free tensor on the host, and what is free. Decided by rules alone.
struct Start {
  Placement placement;
  Freedom freedom;
  std::vector<int> decided_by;
  Matches matches;
};
[[nodiscard]] Result<Start> start_of(const Request& request);

}  // namespace packmule::placement
