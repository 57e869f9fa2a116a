#include "model/workspace.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>

#include "cache/sequence.h"
#include "kernels/kernels.h"
#include "model/weights.h"

namespace packmule::model {
namespace {

constexpr int64_t kAlignBytes = 64;
constexpr int64_t kAlignFloats = kAlignBytes / static_cast<int64_t>(sizeof(float));

/// Collects wishes, then allocates them as one buffer.
class Arena {
 public:
  explicit Arena(bool quantized) : with_quantized_(quantized) {}

  template <class T>
  void want(T*& pointer, int64_t n_rows, int64_t n_cols = 1) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(n_rows, n_cols, &bytes) ||
        __builtin_mul_overflow(bytes, static_cast<int64_t>(sizeof(T)), &bytes) ||
        __builtin_add_overflow(bytes, kAlignBytes - 1, &bytes)) {
      too_large_ = true;
      return;
    }
    bytes = bytes / kAlignBytes * kAlignBytes;
    const int64_t offset = size_;
    too_large_ |= __builtin_add_overflow(size_, bytes, &size_);
    wishes_.push_back([&pointer, offset](std::byte* base) { pointer = reinterpret_cast<T*>(base + offset); });
  }

  void want(Rows& rows, int64_t n_rows, int64_t n_cols) {
    rows.n_rows = n_rows;
    rows.n_cols = n_cols;
    rows.stride = (n_cols + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
    want(rows.data, n_rows, rows.stride);
    want(rows.pointers, n_rows);
    rows_.push_back(&rows);
  }

  /// With room for the quantized form, if rows are cut into whole groups.
  void want_quantized(Rows& rows, int64_t n_rows, int64_t n_cols) {
    want(rows, n_rows, n_cols);
    if (!with_quantized_ || n_cols % kernels::kQuantizedGroup != 0) return;
    want(rows.quantized, n_rows);
    QuantizedStorage& storage = quantized_.emplace_back();
    storage.rows = &rows;
    want(storage.groups, n_rows, n_cols / kernels::kQuantizedGroup);
  }

  [[nodiscard]] Result<int64_t> size_bytes() const {
    if (too_large_)
      return fail(ErrorKind::kOutOfMemory,
                  "activations: more bytes than any memory holds; take a smaller --ubatch-size");
    return size_;
  }

  Status allocate(AlignedBuffer& memory) {
    PACKMULE_TRY(const int64_t n_bytes, size_bytes());
    PACKMULE_TRY(memory, AlignedBuffer::allocate(static_cast<size_t>(n_bytes), "activations"));
    for (const auto& grant : wishes_) grant(memory.data());
    for (Rows* rows : rows_)
      for (int64_t i = 0; i < rows->n_rows; ++i) rows->pointers[i] = rows->row(i);
    for (const QuantizedStorage& storage : quantized_)
      for (int64_t i = 0; i < storage.rows->n_rows; ++i)
        storage.rows->quantized[i] = storage.groups + i * (storage.rows->n_cols / kernels::kQuantizedGroup);
    return {};
  }

 private:
  struct QuantizedStorage {
    Rows* rows = nullptr;
    kernels::QuantizedGroup* groups = nullptr;
  };
  std::vector<std::function<void(std::byte*)>> wishes_;
  std::deque<QuantizedStorage> quantized_;  // wishes point into it
  std::vector<Rows*> rows_;
  int64_t size_ = 0;
  bool with_quantized_;
  bool too_large_ = false;
};

void want_part(Arena& arena, AttentionPart& part, int64_t n_queries, int64_t head_dim) {
  arena.want(part.out, n_queries, head_dim);
  arena.want(part.largest, n_queries);
  arena.want(part.total, n_queries);
}

void want_worker(Arena& arena, WorkerScratch& w, const Hparams& h, int64_t n_results) {
  const int64_t widest =
      std::max({h.hidden, h.expert_ff, h.shared_ff, h.n_v_heads * h.dv, h.n_heads * h.head_dim});
  const int64_t r = h.n_v_heads / h.n_k_heads;
  const int64_t n_queries = kAttentionTokens * (h.n_heads / h.n_kv_heads);
  arena.want(w.matmul, kernels::matmul_scratch_floats(widest));
  arena.want(w.delta, kernels::delta_scratch_floats(h.dk, h.dv));
  arena.want(w.attention, kernels::attention_scratch_floats(n_queries, h.head_dim, cache::kPageTokens));
  arena.want(w.y, n_results);
  arena.want(w.block, n_results, kMaxBlockRows);
  arena.want(w.block_sum, kMaxBlockRows);
  arena.want(w.q, kernels::kDeltaChunk, h.dk);
  arena.want(w.k, kernels::kDeltaChunk, h.dk);
  arena.want(w.v, kernels::kDeltaChunk, r * h.dv);
  arena.want(w.g, kernels::kDeltaChunk, r);
  arena.want(w.beta, kernels::kDeltaChunk, r);
  arena.want(w.queries, n_queries);
  arena.want(w.outputs, n_queries);
  arena.want(w.n_visible, n_queries);
  want_part(arena, w.sum, n_queries, 0);
  want_part(arena, w.part, n_queries, h.head_dim);
}

void want_all(Arena& arena, Workspace& ws, const Hparams& h, const WorkspaceShape& shape) {
  const int64_t n_tokens = shape.ubatch_size;
  const int64_t n_pairs = n_tokens * h.n_experts_used;
  arena.want(ws.x, n_tokens, h.hidden);
  arena.want_quantized(ws.h, n_tokens, h.hidden);
  arena.want(ws.in, n_tokens, std::max(DeltaColumns(h).total, AttentionColumns(h).total));
  arena.want_quantized(ws.mixed, n_tokens, std::max(h.n_v_heads * h.dv, h.n_heads * h.head_dim));
  arena.want(ws.router, n_tokens, h.n_experts);
  arena.want(ws.chosen, n_pairs);
  arena.want(ws.chosen_weight, n_pairs);
  arena.want(ws.shared_weight, n_tokens);
  arena.want(ws.group_begin, h.n_experts + 1);
  arena.want(ws.pair_position, n_pairs);
  arena.want(ws.pair_input, n_pairs);
  arena.want(ws.pair_quantized, n_pairs);
  arena.want_quantized(ws.gate, n_pairs, h.expert_ff);
  arena.want(ws.up, n_pairs, h.expert_ff);
  arena.want_quantized(ws.shared_gate, n_tokens, h.shared_ff);
  arena.want(ws.shared_up, n_tokens, h.shared_ff);
  if (shape.placed) arena.want(ws.delta, n_tokens, h.hidden);
  arena.want(ws.cos, n_tokens, h.rope_dims / 2);
  arena.want(ws.sin, n_tokens, h.rope_dims / 2);
  // Two sequences of 262,144 tokens; threads that share more are not short of work.
  ws.n_part_queries = 2 * (262144 / shape.attention_span) * h.n_heads;
  want_part(arena, ws.parts, ws.n_part_queries, h.head_dim);
  arena.want(ws.logits, shape.n_logit_rows, h.n_vocab);
  ws.groups.resize(static_cast<size_t>(std::min(h.n_experts, n_pairs)));
  ws.workers.resize(static_cast<size_t>(shape.n_threads));
  for (WorkerScratch& worker : ws.workers) want_worker(arena, worker, h, n_tokens + n_pairs);
}

}  // namespace

Result<Workspace> Workspace::allocate(const Hparams& h, const WorkspaceShape& shape) {
  Workspace ws;
  Arena arena(shape.quantized);
  want_all(arena, ws, h, shape);
  PACKMULE_TRY_STATUS(arena.allocate(ws.memory));
  return ws;
}

Result<int64_t> Workspace::size_bytes(const Hparams& h, const WorkspaceShape& shape) {
  Workspace ws;
  Arena arena(shape.quantized);
  want_all(arena, ws, h, shape);
  return arena.size_bytes();
}

}  // namespace packmule::model
