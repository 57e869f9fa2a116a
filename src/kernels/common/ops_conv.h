// The causal depthwise convolution with SiLU, vector lanes along the channels.
#pragma once

#include "kernels/common/ops_math.h"

namespace packmule::kernels {
namespace {

template <class S>
struct Convolution {
  using Floats = typename S::Floats;

  static void conv_silu(const float* x, int64_t x_stride, const float* history, int64_t history_stride,
                        const float* weight, int64_t n_taps, int64_t n_tokens, int64_t begin, int64_t end,
                        float* out, int64_t out_stride) {
    const Rows rows{x, x_stride, history, history_stride, n_taps, n_tokens, out, out_stride};
    for_each_vector<S>(end - begin, [&](int64_t i, auto part) {
      if (n_taps == 4)
        four_taps(rows, weight, begin + i, part);
      else
        any_taps(rows, weight, begin + i, part);
    });
  }

 private:
  static constexpr int64_t kMaxTaps = 8;

  struct Rows {
    const float* x;
    int64_t x_stride;
    const float* history;
    int64_t history_stride;
    int64_t n_taps;
    int64_t n_tokens;
    float* out;
    int64_t out_stride;

    [[nodiscard]] const float* input(int64_t t) const {
      return t >= 0 ? x + t * x_stride : history + (t + n_taps - 1) * history_stride;
    }
  };

  static int64_t lanes(WholeVector<S>) { return S::kWidth; }
  static int64_t lanes(FirstLanes<S> part) { return part.n; }

  // The usual case: each row is read once and handed down through four registers.
  template <class Part>
  static void four_taps(const Rows& rows, const float* weight, int64_t channel, Part part) {
    Floats w[4];
    if (lanes(part) == S::kWidth) {
      S::load_4_columns(weight + channel * 4, w);
    } else {
      float padded[4 * S::kWidth] = {};
      for (int64_t i = 0; i < 4 * lanes(part); ++i) padded[i] = weight[channel * 4 + i];
      S::load_4_columns(padded, w);
    }
    Floats oldest = part.load(rows.input(-3) + channel);
    Floats older = part.load(rows.input(-2) + channel);
    Floats old = part.load(rows.input(-1) + channel);
    for (int64_t t = 0; t < rows.n_tokens; ++t) {
      const Floats newest = part.load(rows.x + t * rows.x_stride + channel);
      Floats sum = S::mul(w[0], oldest);
      sum = S::fma(w[1], older, sum);
      sum = S::fma(w[2], old, sum);
      sum = S::fma(w[3], newest, sum);
      part.store(rows.out + t * rows.out_stride + channel, silu<S>(sum));
      oldest = older;
      older = old;
      old = newest;
    }
  }

  template <class Part>
  static void any_taps(const Rows& rows, const float* weight, int64_t channel, Part part) {
    float by_tap[kMaxTaps][S::kWidth] = {};
    for (int64_t j = 0; j < rows.n_taps; ++j)
      for (int64_t i = 0; i < lanes(part); ++i) by_tap[j][i] = weight[(channel + i) * rows.n_taps + j];
    for (int64_t t = 0; t < rows.n_tokens; ++t) {
      Floats sum = S::zero();
      for (int64_t j = 0; j < rows.n_taps; ++j)
        sum = S::fma(S::load(by_tap[j]), part.load(rows.input(t - (rows.n_taps - 1) + j) + channel), sum);
      part.store(rows.out + t * rows.out_stride + channel, silu<S>(sum));
    }
  }
};

}  // namespace
}  // namespace packmule::kernels
