// The CPU ops of the model: one table of functions per instruction set.
//
// `kernels_for(isa)` returns the table; `ref` is the scalar reference with double accumulators, against which
// every other variant is tested. Functions take raw pointers, allocate nothing, lock nothing, and are safe to
// call from many threads at once on disjoint outputs. No pointer needs more than the natural alignment of its
// type.
//
// Bits: within one variant the result for one output element depends only on that element's inputs. It is the
// same for any row range, any number of tokens in the call, weights as the file has them or in strips, any
// thread count. (Sequences in one batch get the bits they get alone.) ref and the SIMD variants differ from
// each other by rounding only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"
#include "kernels/strip_layout.h"
#include "quant/format.h"

namespace packmule::kernels {

/// Activations rounded to bytes, the usual partner of block formats: 32 neighbours in one cache line, with
/// what a product with them needs. x[i] is about scale * codes[i].
struct alignas(64) QuantizedGroup {
  int8_t codes[32];           // -127 to 127
  float scale;                // largest magnitude / 127
  float sum;                  // scale * sum of all codes: what an offset is multiplied with
  float half_sum[2];          // the same for the first and the last 16
  int32_t minus_sum;          // -sum of all codes: what a bias of unsigned codes is multiplied with
  int32_t minus_half_sum[2];  // of the first and the last 16
  int32_t unused;
};
inline constexpr int64_t kQuantizedGroup = 32;
static_assert(sizeof(QuantizedGroup) == 64);

/// y[t][r] = scale * sum_c W[r][c] * x[t][c], for r in [row_begin, row_end).
struct MatmulArgs {
  const void* weights = nullptr;  // W [n_rows, n_cols] in block format, row 0
  int64_t row_bytes = 0;          // distance between rows of W; in strips, a sixteenth of that between strips
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t n_cols = 0;               // a multiple of the format's block
  const float* const* x = nullptr;  // n_tokens pointers to n_cols floats
  /// n_tokens pointers to n_cols / 32 groups, read instead of x by entries with takes_quantized
  const QuantizedGroup* const* quantized = nullptr;
  float* const* y = nullptr;  // n_tokens pointers; element r of y[t] is row r
  int64_t n_tokens = 0;
  float scale = 1.0f;        // the tensor's `.scale`, 1 when it has none
  float* scratch = nullptr;  // matmul_scratch_floats(n_cols) floats, this thread's own
};
using MatmulFn = void (*)(const MatmulArgs& args);

/// Floats of scratch that any matmul of rows of n_cols elements needs.
[[nodiscard]] int64_t matmul_scratch_floats(int64_t n_cols);

/// Writes kStripRows rows of n_cols elements, row_bytes apart, as one strip (strip_layout.h) of as many
/// bytes.
using InterleaveFn = void (*)(const void* rows, int64_t row_bytes, int64_t n_cols, void* strip);

struct Matmul {
  bool takes_quantized = false;  // the functions read MatmulArgs::quantized
  MatmulFn rows = nullptr;       // W as the file has it
  MatmulFn strips =
      nullptr;  // W in strips, row_begin and row_end multiples of kStripRows; null: not for this format
  InterleaveFn interleave = nullptr;  // makes such a strip
};

/// Attention of some query heads that share one KV head, over one sequence's cache.
///
/// out[i] = sum_j softmax_j(scale * q[i] . K[j]) V[j], for j in [0, n_visible[i]).
///
/// Or a part of it: with `largest` and `total`, largest[i] = max_j scale * q[i] . K[j], total[i] = sum_j
/// exp(scale * q[i] . K[j] - largest[i]), and out[i] is not divided by total[i] yet. n_visible[i] may then be 0
/// (largest -infinity, total and out 0), else it is at least 1.
struct AttentionArgs {
  const float* const* q = nullptr;     // n_q pointers to head_dim floats, norm and RoPE applied
  float* const* out = nullptr;         // n_q pointers to head_dim floats
  const int32_t* n_visible = nullptr;  // [n_q]: how many cached tokens query i sees
  int64_t n_q = 0;
  int64_t head_dim = 0;
  const void* const* k_pages =
      nullptr;  // page p holds tokens [p * page_tokens, (p + 1) * page_tokens) of this KV head:
  const void* const* v_pages = nullptr;  //   token t of it starts at page + (t % page_tokens) * row_bytes
  int64_t k_row_bytes = 0;
  int64_t v_row_bytes = 0;
  int64_t page_tokens = 0;
  quant::Type k_type = quant::Type::kF32;
  quant::Type v_type = quant::Type::kF32;
  float scale = 1.0f;
  float* largest = nullptr;  // [n_q] or null
  float* total = nullptr;    // [n_q] or null, as `largest`
  float* scratch = nullptr;  // attention_scratch_floats(n_q, head_dim, page_tokens) floats
};
[[nodiscard]] int64_t attention_scratch_floats(int64_t n_q, int64_t head_dim, int64_t page_tokens);

/// The gated delta rule of one value head over n_tokens consecutive tokens of one sequence.
///
/// For each token t: S *= exp(g[t]); u = beta[t] * (v[t] - S^T k[t]); S += k[t] u^T; out[t] = S^T q[t].
/// q and k are L2-normalised already, q scaled by 1/sqrt(dk). (Yang et al., "Gated Delta Networks", 2024.)
struct DeltaArgs {
  float* state = nullptr;    // S [dk, dv], dv fastest; updated in place
  const float* q = nullptr;  // token t at q + t * qk_stride, dk floats
  const float* k = nullptr;
  int64_t qk_stride = 0;
  const float* v = nullptr;  // token t at v + t * v_stride, dv floats
  int64_t v_stride = 0;
  const float* g = nullptr;  // log decay, <= 0, token t at g[t * gate_stride]
  const float* beta = nullptr;
  int64_t gate_stride = 0;
  float* out = nullptr;  // token t at out + t * out_stride, dv floats
  int64_t out_stride = 0;
  int64_t dk = 0;
  int64_t dv = 0;
  int64_t n_tokens = 0;
  float* scratch = nullptr;  // delta_scratch_floats(dk, dv) floats
};
using DeltaFn = void (*)(const DeltaArgs& args);
inline constexpr int64_t kDeltaChunk = 64;
[[nodiscard]] int64_t delta_scratch_floats(int64_t dk, int64_t dv);

struct Kernels {
  Isa isa = Isa::kRef;

  /// By type id; null entries for ids that are no format.
  Matmul matmul[quant::kTypeIdLimit];
  /// Decodes n elements, for embeddings and caches; by type id. Same bits as the format's scalar decoder.
  quant::DecodeFn decode[quant::kTypeIdLimit];

  /// y = x / sqrt(mean(x^2) + eps) * weight; y may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* y);
  /// y = x / sqrt(mean(x^2) + eps) * weight * silu(z): the gated norm of DeltaNet; y may be x.
  void (*rms_norm_gated)(const float* x, const float* weight, const float* z, float eps, int64_t n, float* y);
  /// y = x * scale / sqrt(sum(x^2) + eps); y may be x.
  void (*l2_norm)(const float* x, float eps, float scale, int64_t n, float* y);
  /// y = silu(gate) * up; y may be gate or up.
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* y);
  /// x *= sigmoid(gate)
  void (*sigmoid_gate)(float* x, const float* gate, int64_t n);
  /// codes = round to nearest even of x * (127 / largest magnitude of the group); n a multiple of
  /// kQuantizedGroup. Every variant gives the same bits.
  void (*quantize)(const float* x, int64_t n, QuantizedGroup* out);
  /// y += a * x
  void (*axpy)(float a, const float* x, int64_t n, float* y);
  /// sum_i x[i] * y[i]
  float (*dot)(const float* x, const float* y, int64_t n);
  /// Rotates the first n_dims of a head in halves (NeoX): x[i], x[i + n_dims/2] by the angle of cos[i],
  /// sin[i].
  void (*rope)(float* x, const float* cos, const float* sin, int64_t n_dims);
  /// Causal depthwise convolution and SiLU for channels [begin, end) of n_tokens rows:
  /// out[t][c] = silu(sum_j weight[c * n_taps + j] * row(t - (n_taps - 1) + j)[c]), where row(i) is x + i *
  /// x_stride for i >= 0 and history + (i + n_taps - 1) * history_stride for i < 0 (the n_taps - 1 rows
  /// before the first).
  void (*conv_silu)(const float* x, int64_t x_stride, const float* history, int64_t history_stride,
                    const float* weight, int64_t n_taps, int64_t n_tokens, int64_t begin, int64_t end,
                    float* out, int64_t out_stride);
  /// softmax over n logits, the k largest (ties: lower index first), largest first, renormalised to sum 1.
  void (*router_top_k)(const float* logits, int64_t n, int64_t k, int32_t* index, float* weight);
  /// beta = sigmoid(b), g = a_coef * softplus(a + dt_bias), element by element.
  void (*delta_gates)(const float* a, const float* b, const float* a_coef, const float* dt_bias, int64_t n,
                      float* g, float* beta);
  DeltaFn delta_recurrent;  // token by token: for few tokens
  DeltaFn delta_chunked;    // chunks of kDeltaChunk tokens by matrix products (WY form): for many
  void (*attention)(const AttentionArgs& args);
};

/// The table of a variant; isa must be usable on this processor (base/cpu.h).
[[nodiscard]] const Kernels& kernels_for(Isa isa);

}  // namespace packmule::kernels
