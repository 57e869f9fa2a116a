// Mixture of experts: router, gate and up, down and weighted sum.
#pragma once

#include <memory>

#include "model/schedule.h"
#include "model/weights.h"

namespace packmule::model {

/// h = norm(x); chooses experts for every row and sorts the (row, slot) pairs by expert.
[[nodiscard]] std::unique_ptr<Step> make_router(int layer, const Hparams& hparams,
                                                const std::vector<float>& norm, const MoeWeights& weights,
                                                int n_threads);
/// silu(gate h) * up h, of every pair and of the shared expert.
[[nodiscard]] std::unique_ptr<Step> make_gate_up(const Hparams& hparams, const MoeWeights& weights,
                                                 int n_threads);
/// x += sum of the experts' down products by weight, highest first, the shared expert last.
[[nodiscard]] std::unique_ptr<Step> make_down(int layer, const Hparams& hparams, const MoeWeights& weights,
                                              int n_threads);

}  // namespace packmule::model
