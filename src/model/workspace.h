// All memory of the forward pass besides weights and caches, allocated once for a largest batch.
//
// T is the ubatch size, k the experts a token uses. Activations are [rows, cols] in float32, one row a token
// unless noted.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "kernels/kernels.h"
#include "model/hparams.h"

namespace packmule::model {

/// Rows of a matrix product that one work item computes: at most this many, so that results which are used up
/// at once can stay in a thread's own memory.
inline constexpr int64_t kMaxBlockRows = 64;
/// Query tokens that one attention item handles.
inline constexpr int64_t kAttentionTokens = 16;
/// Attention of some queries over one span: out [n, head_dim] before the division by total [n].
struct AttentionPart {
  float* out = nullptr;
  float* largest = nullptr;
  float* total = nullptr;
};

/// What matrices are multiplied with, in both forms; `quantized` is null when no matrix of the model reads
/// it.
struct Inputs {
  const float* const* x = nullptr;
  const kernels::QuantizedGroup* const* quantized = nullptr;
};

/// An activation matrix with its table of row pointers, as the kernels want them.
struct Rows {
  float* data = nullptr;
  float** pointers = nullptr;  // one for each row
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int64_t stride = 0;  // floats from row to row
  // The same rows for matrices of block formats, or null: quantize() brings a part of a row up to date.
  kernels::QuantizedGroup** quantized = nullptr;  // one pointer for each row

  [[nodiscard]] float* row(int64_t i) const { return data + i * stride; }
  [[nodiscard]] Inputs inputs(int64_t first = 0) const {
    return {pointers + first, quantized == nullptr ? nullptr : quantized + first};
  }
  /// Columns [begin, begin + n) of row i; both multiples of kernels::kQuantizedGroup.
  void quantize(const kernels::Kernels& kernels, int64_t i, int64_t begin, int64_t n) const {
    if (quantized == nullptr) return;
    kernels.quantize(row(i) + begin, n, quantized[i] + begin / kernels::kQuantizedGroup);
  }
};

/// Pairs (token, slot) that chose the same expert lie side by side: positions [begin, end) of the pair order.
struct ExpertGroup {
  int32_t expert = 0;
  int32_t begin = 0;
  int32_t end = 0;
};

/// What one thread needs for itself.
struct WorkerScratch {
  float* matmul = nullptr;
  float* delta = nullptr;
  float* attention = nullptr;
  float** y = nullptr;  // [T * (k + 1)] output pointers of the product at hand

  // A block of rows of a product, [T * (k + 1)] results of at most kMaxBlockRows, and the sum of some.
  float* block = nullptr;
  float* block_sum = nullptr;

  // DeltaNet, one chunk of tokens of one k-head and its r value heads.
  float* q = nullptr;     // [chunk, dk]
  float* k = nullptr;     // [chunk, dk]
  float* v = nullptr;     // [chunk, r * dv]
  float* g = nullptr;     // [chunk, r]
  float* beta = nullptr;  // [chunk, r]

  // Attention, the queries of one item.
  const float** queries = nullptr;
  float** outputs = nullptr;
  int32_t* n_visible = nullptr;
  AttentionPart sum;   // over the spans so far; its `out` is not used
  AttentionPart part;  // over one more span
};

/// What sizes a workspace besides the model.
struct WorkspaceShape {
  int64_t ubatch_size = 0;
  int64_t n_logit_rows = 0;
  int64_t attention_span = 0;  // ModelOptions::attention_span
  int n_threads = 1;
  bool quantized = false;  // whether there are matrices that take quantized activations
  bool placed = false;     // whether parts of the model are on a device
};

struct Workspace {
  Rows x;      // residual stream [T, hidden]
  Rows h;      // normalised input of a mixer, the MoE or the head [T, hidden]
  Rows in;     // input projections of a mixer [T, DeltaColumns or AttentionColumns]
  Rows mixed;  // output of a mixer before its output projection [T, nv * dv or n_heads * head_dim]

  Rows router;                     // [T, n_experts]
  int32_t* chosen = nullptr;       // [T, k] experts, highest weight first
  float* chosen_weight = nullptr;  // [T, k]
  float* shared_weight = nullptr;  // [T]
  // The pairs (token, slot) sorted by expert, stable.
  std::vector<ExpertGroup> groups;  // of which n_groups are in use
  int64_t n_groups = 0;
  int32_t* group_begin = nullptr;                            // [n_experts + 1], while sorting
  int32_t* pair_position = nullptr;                          // [T, k]: where the pair lies in the order
  const float** pair_input = nullptr;                        // [T * k] in that order: row of h
  const kernels::QuantizedGroup** pair_quantized = nullptr;  // [T * k], its quantized form
  Rows gate, up;                // [T * k, expert_ff] in that order; gate becomes silu(gate) * up
  Rows shared_gate, shared_up;  // [T, shared_ff]
  Rows delta;                   // [T, hidden] what is added to x on the device, or came from there; if placed

  float* cos = nullptr;  // [T, rope_dims / 2] of each row's position
  float* sin = nullptr;
  AttentionPart parts;       // of n_part_queries, for spans of a long cache that threads share
  int64_t n_part_queries = 0;
  float* logits = nullptr;  // [n_logit_rows, n_vocab] without gaps

  std::vector<WorkerScratch> workers;
  AlignedBuffer memory;

  static Result<Workspace> allocate(const Hparams& hparams, const WorkspaceShape& shape);
  /// What allocate() would take from the system: size_bytes() of `memory`.
  static Result<int64_t> size_bytes(const Hparams& hparams, const WorkspaceShape& shape);
};

}  // namespace packmule::model
