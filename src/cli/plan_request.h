// The planner's request for a model file and the flags of a verb: what `plan` shows and what `run`, `serve`,
// `bench` and `logits` follow.
#pragma once

#include <vector>

#include "base/cpu.h"
#include "engine/options.h"
#include "gguf/file.h"
#include "model/hparams.h"
#include "placement/planner.h"

namespace packmule::cli {

[[nodiscard]] placement::ModelShape model_shape(const model::Hparams& h);

/// What runs with some options need besides weights; the same questions as loading asks, without loading.
class Demands {
 public:
  /// `file` must outlive it.
  Demands(const gguf::File& file, Isa isa, placement::Streaming streaming)
      : file_(file), isa_(isa), streaming_(streaming) {}
  [[nodiscard]] Result<placement::Demand> of(const engine::EngineOptions& options) const;
  /// Flags that ask for less, for the case that it does not fit.
  [[nodiscard]] std::vector<std::vector<placement::Alternative>> smaller_than(
      const engine::EngineOptions& options) const;

 private:
  const gguf::File& file_;
  Isa isa_;
  placement::Streaming streaming_;
};

/// Layers whose experts are streamed from the same number of tokens on.
struct StreamedLayers {
  int64_t from_tokens = 0;
  std::vector<int> layers;
};
/// By tokens, ascending; empty: nothing is ever streamed.
[[nodiscard]] std::vector<StreamedLayers> streamed_layers(const placement::Plan& plan);

/// Plans; where nothing fits, a second time, to find flags that would.
[[nodiscard]] Result<placement::Plan> plan_or_advise(placement::Request& request, const Demands& demands,
                                                     const engine::EngineOptions& options);

}  // namespace packmule::cli
