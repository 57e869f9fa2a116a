#include "model/delta_net.h"

#include <algorithm>
#include <cmath>

namespace packmule::model {
namespace {

constexpr float kL2Eps = 1e-6f;  // of the model code, not in the file

class DeltaRule final : public Step {
 public:
  DeltaRule(int layer, const Hparams& h, const DeltaNetWeights& weights)
      : layer_(layer),
        w_(weights),
        columns_(h),
        eps_(h.rms_eps),
        n_k_heads_(h.n_k_heads),
        r_(h.n_v_heads / h.n_k_heads),
        dk_(h.dk),
        dv_(h.dv),
        taps_(h.conv_taps),
        channels_(h.conv_channels()) {}

  // An item is one k-head of one slice with the r value heads that use it: it owns their channels, their
  // states and their part of the convolution history, from the first token to the last.
  void run(Pass& pass) const override {
    pass.pool.run(static_cast<int64_t>(pass.slices.size()) * n_k_heads_, [&](int64_t item, int worker) {
      const SliceRows& slice = pass.slices[static_cast<size_t>(item / n_k_heads_)];
      const int64_t head = item % n_k_heads_;
      auto run_to = [&, first = int64_t{0}](int64_t end) mutable {
        for (; first < end; first = std::min(end, first + kernels::kDeltaChunk))
          run_chunk(pass, pass.ws.workers[static_cast<size_t>(worker)], slice, first,
                    std::min(kernels::kDeltaChunk, end - first), head);
      };
      for (const Mark& mark : slice.marks) {
        run_to(mark.n_tokens);
        if (mark.copy_to == nullptr) continue;
        const int64_t state_floats = r_ * dk_ * dv_;
        std::copy_n(slice.sequence->state(layer_) + head * state_floats, state_floats,
                    mark.copy_to->state(layer_) + head * state_floats);
        keep_history(pass, slice, mark.n_tokens, head, mark.copy_to->conv_history(layer_));
      }
      run_to(slice.n_rows);
      keep_history(pass, slice, slice.n_rows, head, slice.sequence->conv_history(layer_));
    });
  }

 private:
  /// Tokens [first, first + n) of the slice.
  void run_chunk(Pass& pass, WorkerScratch& scratch, const SliceRows& slice, int64_t first, int64_t n,
                 int64_t head) const {
    const kernels::Kernels& ops = pass.kernels;
    const int64_t row = slice.row + first;
    convolve(pass, slice, first, n, columns_.q + head * dk_, dk_, scratch.q);
    convolve(pass, slice, first, n, columns_.k + head * dk_, dk_, scratch.k);
    convolve(pass, slice, first, n, columns_.v + head * r_ * dv_, r_ * dv_, scratch.v);
    const float q_scale = 1.0f / std::sqrt(static_cast<float>(dk_));
    const int64_t first_v_head = head * r_;
    for (int64_t t = 0; t < n; ++t) {
      ops.l2_norm(scratch.q + t * dk_, kL2Eps, q_scale, dk_, scratch.q + t * dk_);
      ops.l2_norm(scratch.k + t * dk_, kL2Eps, 1.0f, dk_, scratch.k + t * dk_);
      const float* b = pass.ws.in.row(row + t) + columns_.ba + 2 * first_v_head;
      ops.delta_gates(b + r_, b, w_.a_coef.data() + first_v_head, w_.dt_bias.data() + first_v_head, r_,
                      scratch.g + t * r_, scratch.beta + t * r_);
    }
    for (int64_t i = 0; i < r_; ++i) {
      const int64_t v_head = first_v_head + i;
      kernels::DeltaArgs args;
      args.state = slice.sequence->state(layer_) + v_head * dk_ * dv_;
      args.q = scratch.q;
      args.k = scratch.k;
      args.qk_stride = dk_;
      args.v = scratch.v + i * dv_;
      args.v_stride = r_ * dv_;
      args.g = scratch.g + i;
      args.beta = scratch.beta + i;
      args.gate_stride = r_;
      args.out = pass.ws.mixed.row(row) + v_head * dv_;
      args.out_stride = pass.ws.mixed.stride;
      args.dk = dk_;
      args.dv = dv_;
      args.n_tokens = n;
      args.scratch = scratch.delta;
      (n < kChunkedFrom ? ops.delta_recurrent : ops.delta_chunked)(args);
      for (int64_t t = 0; t < n; ++t) {
        float* out = pass.ws.mixed.row(row + t) + v_head * dv_;
        const float* z = pass.ws.in.row(row + t) + columns_.z + v_head * dv_;
        ops.rms_norm_gated(out, w_.norm.data(), z, eps_, dv_, out);
      }
    }
  }

  /// Channels [channel, channel + n_channels) to out [n, n_channels].
  void convolve(Pass& pass, const SliceRows& slice, int64_t first, int64_t n, int64_t channel,
                int64_t n_channels, float* out) const {
    const Rows& in = pass.ws.in;
    // Before the slice lies the sequence's history; before a later chunk (of more rows than taps), the slice.
    const float* history = first == 0 ? slice.sequence->conv_history(layer_) + channel
                                      : in.row(slice.row + first - (taps_ - 1)) + channel;
    pass.kernels.conv_silu(in.row(slice.row + first) + channel, in.stride, history,
                           first == 0 ? channels_ : in.stride, w_.conv.data() + channel * taps_, taps_, n, 0,
                           n_channels, out, n_channels);
  }

  /// The last taps - 1 rows of the sequence's history and the first `n_rows` of the slice together, in the
  /// channels of a k-head, become `history`, which may be the sequence's own.
  void keep_history(Pass& pass, const SliceRows& slice, int64_t n_rows, int64_t head, float* history) const {
    const float* before = slice.sequence->conv_history(layer_);
    const auto keep = [&](int64_t channel, int64_t n_channels) {
      for (int64_t j = 0; j < taps_ - 1; ++j) {
        const int64_t from = n_rows + j;
        const float* source =
            from < taps_ - 1 ? before + from * channels_ : pass.ws.in.row(slice.row + from - (taps_ - 1));
        std::copy_n(source + channel, n_channels, history + j * channels_ + channel);
      }
    };
    keep(columns_.q + head * dk_, dk_);
    keep(columns_.k + head * dk_, dk_);
    keep(columns_.v + head * r_ * dv_, r_ * dv_);
  }

  int layer_;
  const DeltaNetWeights& w_;
  DeltaColumns columns_;
  float eps_;
  int64_t n_k_heads_;
  int64_t r_;  // value heads for each k-head
  int64_t dk_;
  int64_t dv_;
  int64_t taps_;
  int64_t channels_;
};

static_assert(kernels::kDeltaChunk >= 16, "a chunk must hold more rows than the convolution looks back");

}  // namespace

std::unique_ptr<Step> make_delta_rule(int layer, const Hparams& hparams, const DeltaNetWeights& weights) {
  return std::make_unique<DeltaRule>(layer, hparams, weights);
}

}  // namespace packmule::model
