// Mixture of experts: router, gate and up, down and weighted sum. Of a layer that is partly on a device, a
// step does the parts that are the host's.
#pragma once

#include <memory>

#include "model/schedule.h"
#include "model/weights.h"

namespace packmule::model {

/// h = norm(x); chooses experts for every row and sorts the (row, slot) pairs by expert.
[[nodiscard]] std::unique_ptr<Step> make_router(int layer, const Hparams& hparams,
                                                const std::vector<float>& norm, const MoeWeights& weights,
                                                int n_threads);
/// The end of the router's step where that was done on a device: for `experts`, pairs are sorted; for
/// `shared`, the weight of the shared expert is computed.
[[nodiscard]] std::unique_ptr<Step> make_pairs(const Hparams& hparams, const MoeWeights& weights,
                                               bool experts, bool shared);

struct GateUpParts {
  bool gate = true, up = true;                // of the chosen experts
  bool shared_gate = true, shared_up = true;  // of the shared one
  [[nodiscard]] bool any() const { return gate || up || shared_gate || shared_up; }
};
/// silu(gate h) * up h, of every pair and of the shared expert. Of gate and up alone, the bare product.
[[nodiscard]] std::unique_ptr<Step> make_gate_up(const Hparams& hparams, const MoeWeights& weights,
                                                 int n_threads, GateUpParts parts = {});
/// gate = silu(gate) * up, of pairs or of the shared expert, where the products come from two sides.
[[nodiscard]] std::unique_ptr<Step> make_swiglu(const Hparams& hparams, bool shared);

struct DownParts {
  bool experts = true, shared = true;
  bool into_delta = false;  // the sum goes to Workspace::delta
};
/// x += sum of the experts' down products by weight, highest first, the shared expert last.
[[nodiscard]] std::unique_ptr<Step> make_down(int layer, const Hparams& hparams, const MoeWeights& weights,
                                              int n_threads, DownParts parts = {});
/// x += delta
[[nodiscard]] std::unique_ptr<Step> make_add_delta();

}  // namespace packmule::model
