// Gated attention between its input and output projections.
#pragma once

#include <memory>

#include "model/schedule.h"
#include "model/weights.h"

namespace packmule::model {

/// mixed = attention(in) * sigmoid(gate), and K and V of the batch are written to the sequences' pages. Spans are
/// those of ModelOptions::attention_span.
[[nodiscard]] std::unique_ptr<Step> make_attention(int layer, const Hparams& hparams,
                                                   const cache::Layout& layout,
                                                   const AttentionWeights& weights, int64_t span_tokens);

}  // namespace packmule::model
