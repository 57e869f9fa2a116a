// Compiles the schedule of a model on two sides: what placed_schedule.h describes, layer by layer.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "model/device_layers.h"
#include "model/schedule.h"
#include "vulkan/stream_ring.h"

namespace packmule::model {

/// The list of steps while it grows. Work of the device gathers in an open segment until the host does
/// something.
class StepList {
 public:
  explicit StepList(runtime::DeviceState& state) : state_(state) {}

  /// A step of the host, which reads everything that was brought back.
  void host(std::unique_ptr<Step> step);
  /// One that does not read what the second part of the last segment brings back: it runs beside it.
  void host_beside(std::unique_ptr<Step> step);
  /// Work of the device that a step of its own hands over; the host does not wait for it.
  void device(std::unique_ptr<Step> step) { host_beside(std::move(step)); }
  void op(runtime::Op op) { segment().add_op(std::move(op)); }
  void upload(runtime::Move move);
  void download(runtime::Move move) { segment().add_download(std::move(move)); }
  /// What the device does from here on need not be waited for by the host's next steps.
  void split() { segment().split(); }
  Schedule finish();

 private:
  runtime::Segment& segment();
  void flush();
  void join();

  runtime::DeviceState& state_;
  Schedule steps_;
  std::unique_ptr<Step> open_step_;
  runtime::Segment* open_ = nullptr;
  runtime::Segment* unjoined_ = nullptr;  // handed over; its second part brings something back
  bool is_first_ = true;
};

class PlacedLayers {
 public:
  /// All must outlive the schedule. `streamed`: of which layers the host's experts pass through the device's
  /// `ring`, which must be there when the schedule runs; their routers are the device's.
  PlacedLayers(const Hparams& h, const cache::Layout& layout, const Weights& weights, Workspace& ws,
               const kernels::Kernels& kernels, int64_t span_tokens, int n_threads,
               runtime::DeviceState& state, DeviceLayers& device, std::vector<bool> streamed,
               std::optional<vulkan::StreamRing>& ring);
  Schedule compile();

 private:
  void mixer(int layer, const LayerWeights& w);
  void mixture(int layer, const LayerWeights& w);
  /// A product of the device with experts, wherever they lie.
  void expert_product(const ExpertMatrices& matrices, runtime::Value& to);
  void expert_down(const ExpertMatrices& matrices, bool into_delta);
  void head();
  /// The residual stream is moved to a side.
  void bring_x(bool to_device);

  /// Moves of whole rows or of some columns; `quantize`: the host's rounded form is wanted too.
  void upload_rows(runtime::Value& to, const Rows& from, int64_t column, int64_t n_cols);
  void download_rows(runtime::Value& from, const Rows& to, int64_t column, int64_t n_cols, bool quantize);
  void upload_rows(runtime::Value& to, const Rows& from) { upload_rows(to, from, 0, to.n_cols); }
  void download_rows(runtime::Value& from, const Rows& to, bool quantize) {
    download_rows(from, to, 0, from.n_cols, quantize);
  }
  /// Pairs lie in the order of tokens on the device, sorted by expert on the host.
  void upload_pairs(runtime::Value& to, const Rows& from);
  void download_pairs(runtime::Value& from, const Rows& to, bool quantize);
  void upload_choice();
  void download_choice();

  const Hparams& h_;
  const cache::Layout& layout_;
  const Weights& weights_;
  Workspace& ws_;
  const kernels::Kernels& kernels_;
  int64_t span_tokens_;
  int n_threads_;
  runtime::DeviceState& state_;
  DeviceLayers& device_;
  std::vector<bool> streamed_;
  std::optional<vulkan::StreamRing>& ring_;
  StepList steps_;
  bool x_on_device_ = false;
};

}  // namespace packmule::model
