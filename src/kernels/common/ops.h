// The small ops, written once over the vector primitives of an instruction set (S is a folder's OpsSimd).
#pragma once

#include "kernels/common/ops_conv.h"
#include "kernels/common/ops_math.h"
#include "kernels/common/ops_quantize.h"
#include "kernels/common/ops_router.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

template <class S>
struct Ops {
  using Floats = typename S::Floats;

  static float inverse_rms(const float* x, float eps, int64_t n) {
    const float mean = sum_of_products<S>(x, x, n) / static_cast<float>(n);
    return 1.0f / __builtin_sqrtf(mean + eps);
  }

  static void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* y) {
    const Floats factor = S::set(inverse_rms(x, eps, n));
    for_each_vector<S>(n, [=](int64_t i, auto part) {
      part.store(y + i, S::mul(S::mul(part.load(x + i), factor), part.load(weight + i)));
    });
  }

  static void rms_norm_gated(const float* x, const float* weight, const float* z, float eps, int64_t n,
                             float* y) {
    const Floats factor = S::set(inverse_rms(x, eps, n));
    for_each_vector<S>(n, [=](int64_t i, auto part) {
      const Floats normed = S::mul(S::mul(part.load(x + i), factor), part.load(weight + i));
      part.store(y + i, S::mul(normed, silu<S>(part.load(z + i))));
    });
  }

  static void l2_norm(const float* x, float eps, float scale, int64_t n, float* y) {
    const Floats factor = S::set(scale / __builtin_sqrtf(sum_of_products<S>(x, x, n) + eps));
    for_each_vector<S>(n, [=](int64_t i, auto part) { part.store(y + i, S::mul(part.load(x + i), factor)); });
  }

  static void swiglu(const float* gate, const float* up, int64_t n, float* y) {
    for_each_vector<S>(n, [=](int64_t i, auto part) {
      part.store(y + i, S::mul(silu<S>(part.load(gate + i)), part.load(up + i)));
    });
  }

  static void sigmoid_gate(float* x, const float* gate, int64_t n) {
    for_each_vector<S>(n, [=](int64_t i, auto part) {
      part.store(x + i, S::mul(part.load(x + i), sigmoid<S>(part.load(gate + i))));
    });
  }

  static void axpy(float a, const float* x, int64_t n, float* y) {
    const Floats factor = S::set(a);
    for_each_vector<S>(n, [=](int64_t i, auto part) {
      part.store(y + i, S::fma(factor, part.load(x + i), part.load(y + i)));
    });
  }

  static float dot(const float* x, const float* y, int64_t n) { return sum_of_products<S>(x, y, n); }

  static void rope(float* x, const float* cos, const float* sin, int64_t n_dims) {
    const int64_t half = n_dims / 2;
    for_each_vector<S>(half, [=](int64_t i, auto part) {
      const Floats first = part.load(x + i), second = part.load(x + half + i);
      const Floats c = part.load(cos + i), s = part.load(sin + i);
      part.store(x + i, S::fnma(second, s, S::mul(first, c)));
      part.store(x + half + i, S::fma(first, s, S::mul(second, c)));
    });
  }

  static void delta_gates(const float* a, const float* b, const float* a_coef, const float* dt_bias,
                          int64_t n, float* g, float* beta) {
    for_each_vector<S>(n, [=](int64_t i, auto part) {
      const Floats step = S::add(part.load(a + i), part.load(dt_bias + i));
      part.store(g + i, S::mul(part.load(a_coef + i), softplus<S>(step)));
      part.store(beta + i, sigmoid<S>(part.load(b + i)));
    });
  }

  static void fill(Kernels& kernels) {
    kernels.rms_norm = rms_norm;
    kernels.rms_norm_gated = rms_norm_gated;
    kernels.l2_norm = l2_norm;
    kernels.swiglu = swiglu;
    kernels.sigmoid_gate = sigmoid_gate;
    kernels.quantize = quantize;
    kernels.axpy = axpy;
    kernels.dot = dot;
    kernels.rope = rope;
    kernels.conv_silu = Convolution<S>::conv_silu;
    kernels.router_top_k = router_top_k<S>;
    kernels.delta_gates = delta_gates;
  }
};

}  // namespace
}  // namespace packmule::kernels
