// The ops of the model on a device. Each function appends its dispatches to a recorder; what it reads must
// have been written before the last barrier(), and what it writes is seen after the next one (those of
// several dispatches put their own in between).
//
// Activations are float32 rows. Strides are floats from a token's row to the next. Spans are trusted to hold
// what the arguments say: shaders check no bounds, except that ids from a buffer never lead outside. An op
// with no row, token or pair records nothing.
//
// Bits: one output element is summed in one order that depends on the shapes, the device and its driver, and
// not on the other tokens of a call. matvec (few tokens) and matmul (many) differ by rounding.
#pragma once

#include <memory>

#include "quant/format.h"
#include "vulkan/commands.h"
#include "vulkan/memory.h"
#include "vulkan/pipeline.h"

namespace packmule::vulkan {

/// A matrix, or those of all experts one after the other, in blocks as the file has them.
struct Weights {
  quant::Type type = quant::Type::kF32;
  Span span;
  int64_t n_rows = 0;  // of one expert
  int64_t n_cols = 0;
  int64_t n_experts = 1;
  int64_t first_expert = 0;         // expert_matmul() alone: the number of the first one that is there
  float scale = 1.0f;               // the tensor's `.scale`
  int64_t expert_stride_bytes = 0;  // from one expert to the next; 0: they follow each other
  Span expert_scales;               // float, by expert: factors besides `scale`; without bytes: none

  [[nodiscard]] int64_t row_bytes() const { return quant::row_bytes(quant::format_of(type), n_cols); }
  [[nodiscard]] int64_t expert_bytes() const {
    return expert_stride_bytes > 0 ? expert_stride_bytes : n_rows * row_bytes();
  }
};

struct Rows {
  Span span;
  int64_t stride = 0;
};

/// Rows rounded to bytes in groups of 32: x[i] is about scales[i / 32] * codes[i]. Rows follow each other.
struct QuantizedRows {
  Span codes;   // [n_rows, n] bytes
  Span scales;  // [n_rows, n / 32] floats
};

/// y[t] = W x[t] for n_tokens rows. With `rounded` (as many rows as x, of n_cols) it is multiplied instead of
/// x, by integer products: only where Ops::has_int8() says so.
struct MatmulArgs {
  Weights weights;
  Rows x, y;
  int64_t n_tokens = 0;
  QuantizedRows rounded;  // without an address: none
};

/// The same for pairs (token, slot), each with an expert of its own: y[pair] = W[ids[pair]] x[pair /
/// x_divisor].
struct ExpertMatmulArgs {
  Weights weights;
  Span ids;  // int32 [n_pairs]; an id outside counts as the last expert
  Rows x, y;
  int64_t n_pairs = 0;
  int64_t x_divisor = 1;  // pairs that share a row of x: the experts a token has, or 1
  QuantizedRows rounded;  // as in MatmulArgs
};

/// Work space of expert_matmul for many pairs, filled by expert_sort; sizes in bytes by the functions below.
struct ExpertOrder {
  Span begins, pairs, tiles, groups;
  int64_t n_pairs = 0, n_experts = 0;

  static int64_t begins_bytes(int64_t n_experts) { return 4 * (n_experts + 1); }
  static int64_t pairs_bytes(int64_t n_pairs) { return 4 * n_pairs; }
  static int64_t tiles_bytes(int64_t n_pairs, int64_t n_experts) { return 8 * (n_pairs / 32 + n_experts); }
  static constexpr int64_t kGroupsBytes = 12;
};

/// Rows of heads: head h of token t begins at t * stride + h * head_stride floats.
struct HeadRows {
  Span span;
  int64_t stride = 0;
  int64_t head_stride = 0;
};
enum class Norm : uint32_t { kRms = 0, kRmsGated = 1, kL2 = 2 };
struct NormArgs {
  Norm norm = Norm::kRms;
  HeadRows x, y;  // y may be x
  Span weight;    // [n]; not for kL2
  HeadRows z;     // kRmsGated: times silu(z)
  int64_t n = 0, n_heads = 1, n_tokens = 0;
  float eps = 0, scale = 1;  // scale: kL2 only
};

enum class Elementwise : uint32_t { kSwiglu = 0, kSigmoidGate = 1, kAdd = 2 };
/// kSwiglu: y = silu(a) b. kSigmoidGate: y = a sigmoid(b). kAdd: y = a + b. y may be a or b. With several
/// heads a row has n floats of each, head_stride floats apart.
struct ElementwiseArgs {
  Elementwise op = Elementwise::kAdd;
  HeadRows a, b, y;
  int64_t n = 0, n_rows = 0, n_heads = 1;
};

/// g = a_coef * softplus(a + dt_bias), beta = sigmoid(b); a and b are parts of rows with one stride. `group`:
/// heads whose values of a (and of b) follow each other, group_stride floats from one such group to the next;
/// 0: all.
struct DeltaGatesArgs {
  Rows a;
  Span b, a_coef, dt_bias;
  Span g, beta;  // [n_tokens, n_heads]
  int64_t n_heads = 0, n_tokens = 0;
  int64_t group = 0, group_stride = 0;
};

/// Rotates the first n_dims values of each head in halves, in place; cosines and sines [n_tokens, n_dims /
/// 2].
struct RopeArgs {
  HeadRows x;
  Span cosines, sines;
  int64_t n_dims = 0, n_heads = 0, n_tokens = 0;
};

/// Causal depthwise convolution and silu; `history` [n_taps - 1, n_channels] is read and brought up to date.
struct ConvArgs {
  Rows x, y;    // y may be x
  Span weight;  // [n_channels, n_taps]
  Span history;
  int64_t n_channels = 0, n_taps = 4, n_tokens = 0;
};

inline constexpr int64_t kMaxExperts = 1024;
inline constexpr int64_t kMaxChosen = 32;
/// The k largest of n_experts logits and their softmax; ids int32 and weights float [n_tokens, k].
struct RouterArgs {
  Rows logits;
  Span ids, weights;
  int64_t n_experts = 0, k = 0, n_tokens = 0;
};

/// x[t] += sum_s weights[t][s] y[t k + s] (+ sigmoid(shared_gate[t]) shared_y[t] when shared_gate has bytes).
struct ExpertSumArgs {
  Rows y, x;
  Span weights;
  Rows shared_y;
  Span shared_gate;
  int64_t n = 0, k = 0, n_tokens = 0;
};

/// The gated delta rule of all value heads of one sequence (kernels/kernels.h has the formulas). Value head h
/// belongs to key head h / heads_per_key. dk is at most 256.
struct DeltaArgs {
  Span state;    // [n_heads, dk, dv], updated
  Rows q;        // key heads side by side, dk floats each
  Span k;        // rows with the stride of q
  Rows v, y;     // value heads side by side, dv floats each
  Span g, beta;  // [n_tokens, n_heads]
  int64_t dk = 0, dv = 0, n_heads = 0, heads_per_key = 1, n_tokens = 0;
};
[[nodiscard]] int64_t delta_scratch_bytes(int64_t n_tokens, int64_t n_heads);

/// Attention over a paged cache; a page's part of a layer is all K heads and then all V heads, 64 rows each
/// (cache/sequence.h). Query head h belongs to KV head h / (n_heads / n_kv_heads).
struct AttentionArgs {
  Rows q;        // heads side by side, norm and RoPE applied
  Rows y;        // heads side by side
  Span visible;  // int32 [n_tokens]: cached tokens each sees, at least 1, not falling from token to token
  Span pages;    // 64-bit addresses of the pages, 4-byte aligned
  int64_t k_offset = 0, v_offset = 0;  // bytes from a page's start to K and to V of this layer
  quant::Type k_type = quant::Type::kF16, v_type = quant::Type::kF16;
  int64_t n_heads = 0, n_kv_heads = 0, head_dim = 0, n_tokens = 0;
  float scale = 1;
  Span parts;            // attention_parts_bytes()
  int64_t n_splits = 1;  // parts of the tokens that are worked on side by side
};
inline constexpr int64_t kMaxHeadDim = 256;
[[nodiscard]] int64_t attention_parts_bytes(int64_t n_tokens, int64_t n_heads, int64_t head_dim,
                                            int64_t n_splits);

/// Rows of K or V (heads side by side) encoded at their places in a sequence's pages; the place as in
/// AttentionArgs.
struct CacheStoreArgs {
  Rows x;
  Span positions;  // int32 [n_tokens]
  Span pages;
  int64_t offset = 0;
  quant::Type type = quant::Type::kF16;  // any that may hold a cache
  int64_t n_kv_heads = 0, head_dim = 0, n_tokens = 0;
};

class Ops {
 public:
  static Result<std::unique_ptr<Ops>> create(std::shared_ptr<Device> device, Pipelines& pipelines);

  /// Tokens up to which matvec is used by matmul(); more are worked on in tiles.
  static constexpr int64_t kFewTokens = 8;

  [[nodiscard]] Status matmul(Recorder& recorder, const MatmulArgs& args);
  /// The two ways of matmul(), for tests and calibration.
  [[nodiscard]] Status matvec(Recorder& recorder, const MatmulArgs& args);
  [[nodiscard]] Status matmul_tiled(Recorder& recorder, const MatmulArgs& args);

  /// n is a multiple of 32.
  [[nodiscard]] Status quantize(Recorder& recorder, const Rows& x, const QuantizedRows& out, int64_t n,
                                int64_t n_rows);
  /// Whether a format can be multiplied with rounded rows on this device: packed dot products, and codes that
  /// are integers. Their sums are exact.
  [[nodiscard]] bool has_int8(quant::Type type) const;

  /// Every pair by itself: for few.
  [[nodiscard]] Status expert_matvec(Recorder& recorder, const ExpertMatmulArgs& args);
  /// Sorts pairs by expert, for any number of expert_matmul() calls; n_rows as in their weights.
  [[nodiscard]] Status expert_sort(Recorder& recorder, const Span& ids, const ExpertOrder& order,
                                   int64_t n_rows);
  /// An expert's weights once for all its tokens: for many pairs. Where the weights are those of some
  /// experts, the rows of other experts' pairs are left as they are.
  [[nodiscard]] Status expert_matmul(Recorder& recorder, const ExpertMatmulArgs& args,
                                     const ExpertOrder& order);

  /// y[t] = row ids[t] of a matrix; 0 for an id outside.
  [[nodiscard]] Status get_rows(Recorder& recorder, const Weights& weights, const Span& ids, const Rows& y,
                                int64_t n_tokens);
  [[nodiscard]] Status norm(Recorder& recorder, const NormArgs& args);
  [[nodiscard]] Status elementwise(Recorder& recorder, const ElementwiseArgs& args);
  [[nodiscard]] Status delta_gates(Recorder& recorder, const DeltaGatesArgs& args);
  [[nodiscard]] Status rope(Recorder& recorder, const RopeArgs& args);
  [[nodiscard]] Status conv_silu(Recorder& recorder, const ConvArgs& args);
  [[nodiscard]] Status router_top_k(Recorder& recorder, const RouterArgs& args);
  [[nodiscard]] Status expert_sum(Recorder& recorder, const ExpertSumArgs& args);
  [[nodiscard]] Status delta_recurrent(Recorder& recorder, const DeltaArgs& args);
  /// `scratch`: delta_scratch_bytes().
  [[nodiscard]] Status delta_chunked(Recorder& recorder, const DeltaArgs& args, const Span& scratch);
  [[nodiscard]] Status attention(Recorder& recorder, const AttentionArgs& args);
  [[nodiscard]] Status cache_store(Recorder& recorder, const CacheStoreArgs& args);

 private:
  Ops(std::shared_ptr<Device> device, Pipelines& pipelines)
      : device_(std::move(device)), pipelines_(pipelines) {}
  [[nodiscard]] Status check(const Weights& weights, bool rounded) const;

  std::shared_ptr<Device> device_;
  Pipelines& pipelines_;
  Buffer tables_;
  uint32_t lanes_ = 32;  // of a workgroup that sums a row
};

}  // namespace packmule::vulkan
