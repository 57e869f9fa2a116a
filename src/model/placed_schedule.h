// The schedule of a model that is partly or wholly on a graphics device.
//
// The whole question is who computes what, and it is answered once, when the model is loaded. A matrix is
// multiplied where it lies. Everything else of a phase (norms, the router's choice, SwiGLU, sums) is done on
// the side where the phase's result is needed next. So the list of what happens, and of what moves between
// the two memories, is the same for every batch, and is compiled as the schedule of the host is: to a list of
// steps. A step is either one of the host's (the same classes as without a device, told which parts are
// theirs) or a *segment*: all the work of the device between two of the host's steps, which is recorded once
// for a shape of batch and handed over in one call (runtime/segment.h).
//
// Each activation has one place on either side: host rows (workspace.h) and a device value (device_layers.h),
// with the same columns. Which of them holds the current values is known while compiling; a move is compiled
// in only where the other side is about to read it. The residual stream is on one side at a time:
//
//   mixer   norm where x is, if both sides have input projections, else where those are; each projection
//   where
//           its matrix is; attention or delta rule where the layer's cache is; output projection, and x,
//           where its matrix is
//   MoE     x, norm and choice of experts where the router is. Products where their matrices are; SwiGLU
//   where
//           both are, else where the down matrix is. What one side sums goes into x if x is there; else into
//           `delta`, which moves and is added
//
// Where experts are on the host and the rest on the device, this comes to one submission and one wait a
// layer:
//
//   device  | x += delta, mixer, router -> h, choice |  shared expert into x      | next layer
//   host    |                waits                   |  chosen experts into delta -> |
//
// because a segment has two parts, and the host waits only for the first. Experts that the device has itself
// are computed in the second part too. With everything on the device the whole pass is one segment.
//
// Streaming. For a batch that is large enough (Placement::streaming) the experts of the host are multiplied
// on the device too: their weights are copied to a ring of slots while it computes (expert_stream.h). How
// large is known for each layer when the model is loaded, and so for each number from which on another layer
// joins there is a list of steps of its own; a batch takes the one of its size. In such a layer the host only
// copies, and waits for nothing:
//
//   device  | mixer, router | gate, piece by piece | up ... | SwiGLU | down ... | sum into x | next layer
//   host    | gate's first pieces | next pieces ...
//
// A step on the device can fail (the device may be lost): then the pass ends with an error, and the batch's
// sequences are reset. Sequences, pages, and states are those of cache/, whose device part is
// runtime/device_caches.h. The probe (model.h) sees only what is computed on the host.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "model/device_layers.h"
#include "model/placement.h"
#include "model/schedule.h"
#include "vulkan/stream_ring.h"

namespace packmule::model {

class PlacedModel {
 public:
  /// `layout` and the hyper-parameters must outlive it. `n_tokens`, `n_logits`: of the largest batch.
  static Result<std::unique_ptr<PlacedModel>> create(const Hparams& h, const cache::Layout& layout,
                                                     std::shared_ptr<const Placement> placement,
                                                     int64_t n_tokens, int64_t n_logits);

  /// For Weights::bind().
  [[nodiscard]] runtime::DeviceWeights& weights() { return weights_; }
  /// Makes the steps, of both sides. All arguments must outlive this object.
  void compile(const Weights& weights, Workspace& ws, const kernels::Kernels& kernels, int64_t span_tokens,
               int n_threads);
  /// Those of a batch of so many tokens.
  [[nodiscard]] const Schedule& schedule(int64_t n_tokens) const;
  /// Tokens of the smallest batch that streams a layer's experts; 0: none does.
  [[nodiscard]] int64_t streams_from() const { return schedules_.size() > 1 ? schedules_[1].from_tokens : 0; }
  /// After compile(): refuses what does not fit, with the numbers, before it takes anything; then takes
  /// memory and uploads the weights.
  [[nodiscard]] Status load(const gguf::File& file);
  /// Memory of caches, for a page pool; null when all caches are the host's.
  [[nodiscard]] std::shared_ptr<cache::DeviceMemory> new_caches() const;

  /// Before and after the steps of a batch.
  [[nodiscard]] Status begin(const Pass& pass);
  [[nodiscard]] Status finish() { return state_.finish(); }

  [[nodiscard]] int64_t device_bytes() const { return device_bytes_; }  // weights, activations and tables
  [[nodiscard]] int64_t device_weight_bytes() const { return weights_.tensor_bytes(); }

 private:
  /// From how many tokens on a layer's experts are streamed; 0: never.
  [[nodiscard]] int64_t streams_from(const MoeWeights& w, int layer) const;
  [[nodiscard]] int64_t ring_bytes() const {
    return placement_->streaming.n_slots * placement_->streaming.slot_bytes;
  }
  /// Every so many passes.
  void watch_memory();
  PlacedModel(const Hparams& h, const cache::Layout& layout, std::shared_ptr<const Placement> placement,
              int64_t n_tokens, int64_t n_logits);

  const Hparams& h_;
  const cache::Layout& layout_;
  std::shared_ptr<const Placement> placement_;
  int64_t n_tokens_;  // of the largest batch
  int64_t device_bytes_ = 0;
  int64_t n_passes_ = 0;
  bool is_over_budget_ = false;
  runtime::DeviceWeights weights_;
  runtime::DeviceState state_;
  DeviceLayers layers_;
  std::optional<vulkan::StreamRing> ring_;  // after load(), if any schedule streams
  struct ScheduleFrom {
    int64_t from_tokens = 0;
    Schedule steps;
  };
  std::vector<ScheduleFrom> schedules_;  // ascending; the first streams nothing
};

}  // namespace packmule::model
