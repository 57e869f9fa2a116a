// The gated delta rule token by token, vector lanes along dv (S is a folder's OpsSimd).
//
// The columns of the state do not depend on each other, so they go in panels: all tokens of the call over one
// panel, then the next, and a panel stays in the cache between tokens. The state is read once for S^T k and
// S^T q (the decay is applied to the sums; what the token itself writes adds (q . k) u to its output), then
// read and written once for the decay and the write.
#pragma once

#include "kernels/common/ops_math.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

template <class S>
struct DeltaRecurrent {
  using Floats = typename S::Floats;
  static constexpr int kVectors = 4;
  static constexpr int64_t kPanel = kVectors * S::kWidth;

  static void run(const DeltaArgs& args) {
    int64_t begin = 0;
    for (; begin + kPanel <= args.dv; begin += kPanel) columns<kVectors>(args, begin, WholeVector<S>{});
    for (; begin + S::kWidth <= args.dv; begin += S::kWidth) columns<1>(args, begin, WholeVector<S>{});
    if (begin < args.dv) columns<1>(args, begin, FirstLanes<S>{args.dv - begin});
  }

 private:
  template <int kCount, class Part>
  static void columns(const DeltaArgs& args, int64_t begin, Part part) {
    for (int64_t t = 0; t < args.n_tokens; ++t) step<kCount>(args, t, begin, part);
  }

  template <int kCount, class Part>
  [[gnu::always_inline]] static void step(const DeltaArgs& args, int64_t t, int64_t begin, Part part) {
    const float* q = args.q + t * args.qk_stride;
    const float* k = args.k + t * args.qk_stride;
    float* const state = args.state + begin;
    const Floats decay = exp<S>(S::set(args.g[t * args.gate_stride]));

    Floats held[kCount], out[kCount];
    for (int c = 0; c < kCount; ++c) held[c] = out[c] = S::zero();
    for (int64_t i = 0; i < args.dk; ++i) {
      const float* row = state + i * args.dv;
      const Floats ki = S::set(k[i]), qi = S::set(q[i]);
      for (int c = 0; c < kCount; ++c) {
        const Floats s = part.load(row + c * S::kWidth);
        held[c] = S::fma(ki, s, held[c]);
        out[c] = S::fma(qi, s, out[c]);
      }
    }

    Floats u[kCount];
    const float* v = args.v + t * args.v_stride + begin;
    const Floats beta = S::set(args.beta[t * args.gate_stride]);
    const Floats qk = S::set(exact_dot(q, k, args.dk));
    for (int c = 0; c < kCount; ++c) {
      u[c] = S::mul(beta, S::fnma(decay, held[c], part.load(v + c * S::kWidth)));
      out[c] = S::fma(decay, out[c], S::mul(qk, u[c]));
    }
    for (int64_t i = 0; i < args.dk; ++i) {
      float* row = state + i * args.dv;
      const Floats ki = S::set(k[i]);
      for (int c = 0; c < kCount; ++c) {
        float* s = row + c * S::kWidth;
        part.store(s, S::fma(ki, u[c], S::mul(decay, part.load(s))));
      }
    }
    float* to = args.out + t * args.out_stride + begin;
    for (int c = 0; c < kCount; ++c) part.store(to + c * S::kWidth, out[c]);
  }
};

}  // namespace
}  // namespace packmule::kernels
