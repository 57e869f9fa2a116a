// Gated DeltaNet between its input and output projections.
#pragma once

#include <memory>

#include "model/schedule.h"
#include "model/weights.h"

namespace packmule::model {

/// Slices are worked off in chunks of kernels::kDeltaChunk tokens; a chunk of fewer tokens than this takes
/// the recurrent form. The chunked form costs about the same for 1 as for 16 tokens (its triangular system
/// and the two products with the state), the recurrent form reads and writes the state once for each.
inline constexpr int64_t kChunkedFrom = 16;

/// mixed = gated_norm(delta_rule(conv(in))), and the sequences' states are updated.
[[nodiscard]] std::unique_ptr<Step> make_delta_rule(int layer, const Hparams& hparams,
                                                    const DeltaNetWeights& weights);

}  // namespace packmule::model
