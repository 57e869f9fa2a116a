#include "model/placed_layers.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "model/attention.h"
#include "model/delta_net.h"
#include "model/expert_stream.h"
#include "model/moe.h"
#include "model/projection.h"

namespace packmule::model {
namespace {

using runtime::Move;
using runtime::Segment;
using runtime::Value;

class RunSegment final : public Step {
 public:
  explicit RunSegment(runtime::DeviceState& state) : segment_(state) {}
  void run(Pass& pass) const override { pass.failure = segment_.run(); }
  [[nodiscard]] Segment& segment() const { return segment_; }

 private:
  mutable Segment segment_;  // keeps what it has recorded
};

class JoinSegment final : public Step {
 public:
  explicit JoinSegment(Segment& segment) : segment_(segment) {}
  void run(Pass& pass) const override { pass.failure = segment_.join(); }

 private:
  Segment& segment_;
};

void copy_floats(float* to, const float* from, int64_t n) {
  std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

}  // namespace

Segment& StepList::segment() {
  if (open_ != nullptr) return *open_;
  join();  // staging of the last one is used anew
  auto step = std::make_unique<RunSegment>(state_);
  open_ = &step->segment();
  open_step_ = std::move(step);
  if (is_first_) open_->copies_tables();
  is_first_ = false;
  return *open_;
}

void StepList::flush() {
  if (open_ == nullptr) return;
  steps_.push_back(std::move(open_step_));
  if (open_->must_join()) unjoined_ = open_;
  open_ = nullptr;
}

void StepList::join() {
  if (unjoined_ != nullptr) steps_.push_back(std::make_unique<JoinSegment>(*unjoined_));
  unjoined_ = nullptr;
}

void StepList::host_beside(std::unique_ptr<Step> step) {
  flush();
  steps_.push_back(std::move(step));
}

void StepList::host(std::unique_ptr<Step> step) {
  flush();
  join();
  steps_.push_back(std::move(step));
}

void StepList::upload(Move move) {
  // Uploads come first in a segment: an op before this one may need what the value held.
  if (open_ != nullptr && open_->has_ops()) flush();
  segment().add_upload(std::move(move));
}

Schedule StepList::finish() {
  flush();
  join();
  return std::move(steps_);
}

PlacedLayers::PlacedLayers(const Hparams& h, const cache::Layout& layout, const Weights& weights,
                           Workspace& ws, const kernels::Kernels& kernels, int64_t span_tokens, int n_threads,
                           runtime::DeviceState& state, DeviceLayers& device, std::vector<bool> streamed,
                           std::optional<vulkan::StreamRing>& ring)
    : h_(h),
      layout_(layout),
      weights_(weights),
      ws_(ws),
      kernels_(kernels),
      span_tokens_(span_tokens),
      n_threads_(n_threads),
      state_(state),
      device_(device),
      streamed_(std::move(streamed)),
      ring_(ring),
      steps_(state) {}

Schedule PlacedLayers::compile() {
  x_on_device_ = weights_.embedding.on_device();
  if (x_on_device_)
    steps_.op(device_.embed(weights_.embedding));
  else
    steps_.host(make_embedding(weights_.embedding));
  for (int layer = 0; layer < h_.n_layers; ++layer) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
    mixer(layer, w);
    mixture(layer, w);
  }
  head();
  return steps_.finish();
}

void PlacedLayers::bring_x(bool to_device) {
  if (x_on_device_ == to_device) return;
  if (to_device)
    upload_rows(device_.x, ws_.x);
  else
    download_rows(device_.x, ws_.x, false);
  x_on_device_ = to_device;
}

void PlacedLayers::mixer(int layer, const LayerWeights& w) {
  std::vector<const Projection*> on_host, on_device;
  for (const Projection& projection : w.recurrent ? w.delta_net.in : w.attention.in)
    (projection.matrix.on_device() ? on_device : on_host).push_back(&projection);
  const bool core_on_device = layout_.is_on_device(static_cast<size_t>(layer));
  const std::string norm_name = "attn_norm.weight";

  // The norm is computed once; h moves if both sides need it.
  const std::vector<float>* norm_of_projections = nullptr;
  if (on_device.empty()) {
    bring_x(false);
    norm_of_projections = &w.mixer_norm;
  } else if (on_host.empty()) {
    bring_x(true);
    steps_.op(device_.norm(w.mixer_norm, norm_name));
  } else if (x_on_device_) {
    steps_.op(device_.norm(w.mixer_norm, norm_name));
    download_rows(device_.h, ws_.h, true);
    steps_.split();
  } else {
    steps_.host(make_norm(w.mixer_norm, h_.rms_eps));
    upload_rows(device_.h, ws_.h);
    steps_.split();
  }

  if (!on_device.empty()) {
    steps_.op(device_.project(on_device));
    if (!core_on_device)
      for (const Projection* projection : on_device)
        download_rows(device_.in, ws_.in, projection->column, projection->matrix.n_rows, false);
  }
  if (!on_host.empty()) {
    auto step = make_input_projections(norm_of_projections, h_.rms_eps, on_host, n_threads_);
    // With the norm, it reads x, which may just have been brought.
    if (norm_of_projections != nullptr)
      steps_.host(std::move(step));
    else
      steps_.host_beside(std::move(step));
    if (core_on_device)
      for (const Projection* projection : on_host)
        upload_rows(device_.in, ws_.in, projection->column, projection->matrix.n_rows);
  }

  if (core_on_device)
    steps_.op(w.recurrent ? device_.delta_rule(layer, w.delta_net) : device_.attention(layer, w.attention));
  else
    steps_.host(w.recurrent ? make_delta_rule(layer, h_, w.delta_net)
                            : make_attention(layer, h_, layout_, w.attention, span_tokens_));

  const Matrix& out = w.recurrent ? w.delta_net.out : w.attention.out;
  if (core_on_device && !out.on_device()) download_rows(device_.mixed, ws_.mixed, 0, out.n_cols, false);
  if (!core_on_device && out.on_device()) upload_rows(device_.mixed, ws_.mixed, 0, out.n_cols);
  bring_x(out.on_device());
  if (out.on_device())
    steps_.op(device_.output_projection(out));
  else
    steps_.host(make_output_projection(out, n_threads_));
}

void PlacedLayers::expert_product(const ExpertMatrices& matrices, Value& to) {
  if (matrices.on_device())
    steps_.op(device_.expert_product(matrices, to));
  else
    steps_.device(make_streamed_product(matrices, h_.n_experts, device_.expert_product_piece(matrices, to),
                                        ring_, state_, n_threads_));
}

void PlacedLayers::expert_down(const ExpertMatrices& matrices, bool into_delta) {
  steps_.op(device_.round_gate(matrices));
  if (matrices.on_device())
    steps_.op(device_.expert_down(matrices));
  else
    steps_.device(make_streamed_product(matrices, h_.n_experts, device_.expert_down_piece(matrices), ring_,
                                        state_, n_threads_));
  steps_.op(device_.expert_sum(into_delta));
}

void PlacedLayers::mixture(int layer, const LayerWeights& layer_weights) {
  const MoeWeights& w = layer_weights.moe;
  const bool on_device = w.router.on_device();
  bring_x(on_device);

  // Which products are the device's.
  const bool streamed = streamed_[static_cast<size_t>(layer)];
  const bool gate = streamed || w.gate.on_device(), up = streamed || w.up.on_device(),
             down = streamed || w.down.on_device();
  const bool shared_gate = w.shared_gate.on_device(), shared_up = w.shared_up.on_device(),
             shared_down = w.shared_down.on_device();
  const bool device_experts = gate || up || down, host_experts = !(gate && up && down);
  const bool device_shared = shared_gate || shared_up || shared_down;
  const bool host_reads_h = !(gate && up && shared_gate && shared_up && shared_down);

  // Phase 1: h and the choice go to whoever needs them.
  if (on_device) {
    steps_.op(device_.norm(layer_weights.moe_norm, "post_attention_norm.weight"));
    steps_.op(device_.router(w));
    if (host_reads_h) download_rows(device_.h, ws_.h, true);
    if (host_experts) download_choice();
    if (host_reads_h || host_experts) steps_.split();
  } else {
    steps_.host(make_router(layer, h_, layer_weights.moe_norm, w, n_threads_));
    if (device_experts || device_shared) {
      upload_rows(device_.h, ws_.h);
      if (device_experts) upload_choice();
      steps_.split();
    }
  }

  // Phase 2: products on the device, and sums of what is all its own.
  const bool mixed_experts = device_experts && host_experts;
  const bool mixed_shared = device_shared && !(shared_gate && shared_up && shared_down);
  bool device_sums = false;
  const auto begin_sum = [&] {
    if (!on_device && !device_sums) steps_.op(device_.clear_delta());
    device_sums = true;
  };
  if (device_experts) steps_.op(device_.sort_pairs());
  std::vector<const Matrix*> reads_h;
  for (const auto& [here, matrix] :
       {std::pair(gate, &w.gate.first), std::pair(up, &w.up.first), std::pair(shared_gate, &w.shared_gate),
        std::pair(shared_up, &w.shared_up)})
    if (here) reads_h.push_back(matrix);
  if (!reads_h.empty()) steps_.op(device_.round_h(std::move(reads_h)));
  if (gate) expert_product(w.gate, device_.gate);
  if (up) expert_product(w.up, device_.up);
  if (gate && up) steps_.op(device_.swiglu(device_.gate, device_.up));
  if (device_experts && !mixed_experts) {
    begin_sum();
    expert_down(w.down, !on_device);
  }
  if (shared_gate) steps_.op(device_.shared_product(w.shared_gate, device_.shared_gate));
  if (shared_up) steps_.op(device_.shared_product(w.shared_up, device_.shared_up));
  if (shared_gate && shared_up) steps_.op(device_.swiglu(device_.shared_gate, device_.shared_up));
  if (shared_down) steps_.op(device_.shared_weight(w.shared_weight));
  if (device_shared && !mixed_shared) {
    begin_sum();
    steps_.op(device_.shared_down(w.shared_down, !on_device));
  }
  // What was multiplied here and is used up there.
  if (mixed_experts && !down) {
    if (gate) download_pairs(device_.gate, ws_.gate, up);
    if (up && !gate) download_pairs(device_.up, ws_.up, false);
  }
  if (mixed_shared && !shared_down) {
    if (shared_gate) download_rows(device_.shared_gate, ws_.shared_gate, shared_up);
    if (shared_up && !shared_gate) download_rows(device_.shared_up, ws_.shared_up, false);
  }
  const bool device_downs_later = (mixed_experts && down) || (mixed_shared && shared_down);
  if (!on_device && device_sums && !device_downs_later) download_rows(device_.delta, ws_.delta, false);

  // Phase 3: products on the host, beside it.
  if (on_device && (host_experts || !shared_down))
    steps_.host_beside(make_pairs(h_, w, host_experts, !shared_down));
  const GateUpParts parts{!gate, !up, !shared_gate, !shared_up};
  if (parts.any()) steps_.host_beside(make_gate_up(h_, w, n_threads_, parts));

  // Phase 4: down products of the device that waited for the host.
  if (mixed_experts && down) {
    if (!gate) upload_pairs(device_.gate, ws_.gate);
    if (!up && gate) upload_pairs(device_.up, ws_.up);
  }
  if (mixed_shared && shared_down) {
    if (!shared_gate) upload_rows(device_.shared_gate, ws_.shared_gate);
    if (!shared_up && shared_gate) upload_rows(device_.shared_up, ws_.shared_up);
  }
  if (mixed_experts && down) {
    if (gate != up) steps_.op(device_.swiglu(device_.gate, device_.up));
    begin_sum();
    expert_down(w.down, !on_device);
  }
  if (mixed_shared && shared_down) {
    if (shared_gate != shared_up) steps_.op(device_.swiglu(device_.shared_gate, device_.shared_up));
    begin_sum();
    steps_.op(device_.shared_down(w.shared_down, !on_device));
  }
  if (!on_device && device_downs_later) download_rows(device_.delta, ws_.delta, false);

  // Phase 5: those of the host, and what goes over.
  if (!down && gate != up) steps_.host(make_swiglu(h_, false));
  if (!shared_down && shared_gate != shared_up) steps_.host(make_swiglu(h_, true));
  if (!down || !shared_down) {
    auto step = make_down(layer, h_, w, n_threads_, {!down, !shared_down, on_device});
    if ((mixed_experts && !down) || (mixed_shared && !shared_down))
      steps_.host(std::move(step));
    else
      steps_.host_beside(std::move(step));
  }
  if (on_device && (!down || !shared_down)) {
    upload_rows(device_.delta, ws_.delta);
    steps_.op(device_.add_delta());
  }
  if (!on_device && device_sums) steps_.host(make_add_delta());
}

void PlacedLayers::head() {
  bring_x(weights_.output.on_device());
  if (!weights_.output.on_device()) {
    steps_.host(make_head(weights_.output_norm, h_.rms_eps, weights_.output, n_threads_));
    return;
  }
  steps_.op(device_.head(weights_.output_norm, weights_.output));
  steps_.download(
      {&device_.logits, 0, h_.n_vocab, [this_ws = &ws_, n = h_.n_vocab](int64_t row, float* staging) {
         copy_floats(this_ws->logits + row * n, staging, n);
       }});
}

void PlacedLayers::upload_rows(Value& to, const Rows& from, int64_t column, int64_t n_cols) {
  steps_.upload({&to, column, n_cols, [&from, column, n_cols](int64_t row, float* staging) {
                   copy_floats(staging, from.row(row) + column, n_cols);
                 }});
}

void PlacedLayers::download_rows(Value& from, const Rows& to, int64_t column, int64_t n_cols, bool quantize) {
  steps_.download({&from, column, n_cols,
                   [&to, &kernels = kernels_, column, n_cols, quantize](int64_t row, float* staging) {
                     copy_floats(to.row(row) + column, staging, n_cols);
                     if (quantize) to.quantize(kernels, row, 0, to.n_cols);
                   }});
}

void PlacedLayers::upload_pairs(Value& to, const Rows& from) {
  steps_.upload({&to, 0, to.n_cols, [&from, &ws = ws_](int64_t pair, float* staging) {
                   copy_floats(staging, from.row(ws.pair_position[pair]), from.n_cols);
                 }});
}

void PlacedLayers::download_pairs(Value& from, const Rows& to, bool quantize) {
  steps_.download(
      {&from, 0, from.n_cols, [&to, &ws = ws_, &kernels = kernels_, quantize](int64_t pair, float* staging) {
         const int64_t row = ws.pair_position[pair];
         copy_floats(to.row(row), staging, to.n_cols);
         if (quantize) to.quantize(kernels, row, 0, to.n_cols);
       }});
}

void PlacedLayers::upload_choice() {
  const int64_t k = h_.n_experts_used;
  steps_.upload({&device_.ids, 0, k, [&ws = ws_, k](int64_t row, float* staging) {
                   std::memcpy(staging, ws.chosen + row * k, static_cast<size_t>(k) * sizeof(int32_t));
                 }});
  steps_.upload({&device_.chosen_weight, 0, k, [&ws = ws_, k](int64_t row, float* staging) {
                   copy_floats(staging, ws.chosen_weight + row * k, k);
                 }});
}

void PlacedLayers::download_choice() {
  const int64_t k = h_.n_experts_used;
  steps_.download({&device_.ids, 0, k, [&ws = ws_, k](int64_t row, float* staging) {
                     std::memcpy(ws.chosen + row * k, staging, static_cast<size_t>(k) * sizeof(int32_t));
                   }});
  steps_.download({&device_.chosen_weight, 0, k, [&ws = ws_, k](int64_t row, float* staging) {
                     copy_floats(ws.chosen_weight + row * k, staging, k);
                   }});
}

}  // namespace packmule::model
