// The scalar reference of the small ops: every intermediate in double, one rounding to float at the end.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/variants.h"

namespace packmule::kernels::ref {
namespace {

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}
double silu(double x) {
  return x / (1.0 + std::exp(-x));
}
// ln(1 + e^x), written so that e^x is never taken of a large number.
double softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

double sum_of_squares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

double inverse_rms(const float* x, float eps, int64_t n) {
  return 1.0 / std::sqrt(sum_of_squares(x, n) / static_cast<double>(n) + eps);
}

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* y) {
  const double factor = inverse_rms(x, eps, n);
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * factor * weight[i]);
}

void rms_norm_gated(const float* x, const float* weight, const float* z, float eps, int64_t n, float* y) {
  const double factor = inverse_rms(x, eps, n);
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * factor * weight[i] * silu(z[i]));
}

void l2_norm(const float* x, float eps, float scale, int64_t n, float* y) {
  const double factor = scale / std::sqrt(sum_of_squares(x, n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * factor);
}

void swiglu(const float* gate, const float* up, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(silu(gate[i]) * up[i]);
}

void sigmoid_gate(float* x, const float* gate, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(x[i] * sigmoid(gate[i]));
}

void quantize(const float* x, int64_t n, QuantizedGroup* out) {
  for (int64_t begin = 0; begin < n; begin += kQuantizedGroup, ++out) {
    float largest = 0;
    for (int64_t i = begin; i < begin + kQuantizedGroup; ++i) largest = std::max(largest, std::abs(x[i]));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int sums[2] = {};
    for (int64_t i = 0; i < kQuantizedGroup; ++i) {
      const auto code = static_cast<int>(std::nearbyint(x[begin + i] * inverse));
      out->codes[i] = static_cast<int8_t>(code);
      sums[i / 16] += code;
    }
    out->scale = largest / 127.0f;
    out->sum = out->scale * static_cast<float>(sums[0] + sums[1]);
    out->minus_sum = -(sums[0] + sums[1]);
    for (int half = 0; half < 2; ++half) {
      out->half_sum[half] = out->scale * static_cast<float>(sums[half]);
      out->minus_half_sum[half] = -sums[half];
    }
    out->unused = 0;
  }
}

void axpy(float a, const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(y[i] + static_cast<double>(a) * x[i]);
}

float dot(const float* x, const float* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * y[i];
  return static_cast<float>(sum);
}

void rope(float* x, const float* cos, const float* sin, int64_t n_dims) {
  const int64_t half = n_dims / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double first = x[i];
    const double second = x[i + half];
    x[i] = static_cast<float>(first * cos[i] - second * sin[i]);
    x[i + half] = static_cast<float>(second * cos[i] + first * sin[i]);
  }
}

void conv_silu(const float* x, int64_t x_stride, const float* history, int64_t history_stride,
               const float* weight, int64_t n_taps, int64_t n_tokens, int64_t begin, int64_t end, float* out,
               int64_t out_stride) {
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t c = begin; c < end; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < n_taps; ++j) {
        const int64_t row = t - (n_taps - 1) + j;
        const float value =
            row >= 0 ? x[row * x_stride + c] : history[(row + n_taps - 1) * history_stride + c];
        sum += static_cast<double>(weight[c * n_taps + j]) * value;
      }
      out[t * out_stride + c] = static_cast<float>(silu(sum));
    }
  }
}

// A NaN ranks below every number, so that the chosen indices are always distinct and in range.
bool ranks_before(float a, float b) {
  return a > b || (std::isnan(b) && !std::isnan(a));
}

void router_top_k(const float* logits, int64_t n, int64_t k, int32_t* index, float* weight) {
  // The k best so far, best first; an equal logit stays behind the earlier one. Choosing by logits rather
  // than by probabilities keeps logits apart whose probabilities round to the same number.
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = count;
    while (at > 0 && ranks_before(logits[i], weight[at - 1])) --at;
    if (at >= k) continue;
    count = std::min(count + 1, k);
    for (int64_t j = count - 1; j > at; --j) {
      weight[j] = weight[j - 1];
      index[j] = index[j - 1];
    }
    weight[at] = logits[i];
    index[at] = static_cast<int32_t>(i);
  }
  // The softmax's own denominator cancels when the chosen ones are renormalised.
  if (count == 0) return;
  const double largest = weight[0];
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += std::exp(weight[j] - largest);
  for (int64_t i = 0; i < n; ++i)
    if (std::isnan(logits[i])) sum = std::numeric_limits<double>::quiet_NaN();  // a NaN must be seen
  for (int64_t j = 0; j < count; ++j) weight[j] = static_cast<float>(std::exp(weight[j] - largest) / sum);
}

void delta_gates(const float* a, const float* b, const float* a_coef, const float* dt_bias, int64_t n,
                 float* g, float* beta) {
  for (int64_t i = 0; i < n; ++i) {
    const double step = static_cast<double>(a[i]) + dt_bias[i];
    g[i] = static_cast<float>(a_coef[i] * softplus(step));
    beta[i] = static_cast<float>(sigmoid(b[i]));
  }
}

}  // namespace

void fill_ops(Kernels& kernels) {
  kernels.rms_norm = rms_norm;
  kernels.rms_norm_gated = rms_norm_gated;
  kernels.l2_norm = l2_norm;
  kernels.swiglu = swiglu;
  kernels.sigmoid_gate = sigmoid_gate;
  kernels.quantize = quantize;
  kernels.axpy = axpy;
  kernels.dot = dot;
  kernels.rope = rope;
  kernels.conv_silu = conv_silu;
  kernels.router_top_k = router_top_k;
  kernels.delta_gates = delta_gates;
  fill_delta(kernels);
  fill_attention(kernels);
}

}  // namespace packmule::kernels::ref
