#include "model/attention.h"

#include <algorithm>
#include <cmath>

namespace packmule::model {
namespace {

class Attention final : public Step {
 public:
  Attention(int layer, const Hparams& h, const cache::Layout& layout, const AttentionWeights& weights,
            int64_t span_tokens)
      : layer_(layer),
        w_(weights),
        columns_(h),
        eps_(h.rms_eps),
        n_kv_heads_(h.n_kv_heads),
        group_(h.n_heads / h.n_kv_heads),
        head_dim_(h.head_dim),
        rope_dims_(h.rope_dims),
        k_format_(quant::format_of(layout.k_type)),
        v_format_(quant::format_of(layout.v_type)),
        k_row_bytes_(layout.k_row_bytes()),
        v_row_bytes_(layout.v_row_bytes()),
        span_tokens_(span_tokens) {}

  void run(Pass& pass) const override {
    pass.pool.run(pass.n_rows * n_kv_heads_,
                  [&](int64_t item, int) { prepare(pass, item / n_kv_heads_, item % n_kv_heads_); });
    // A KV head is read once for all query heads of its group. Where that leaves threads without work, they
    // share the spans of a long cache, or else the heads of a group.
    const int64_t n_items = static_cast<int64_t>(pass.attention_blocks.size()) * n_kv_heads_;
    if (n_items < 2 * pass.pool.n_threads() && pass.pool.n_threads() > 1 && share_spans(pass)) return;
    int64_t heads_per_item = group_;
    while (heads_per_item > 1 && n_items * (group_ / heads_per_item) < pass.pool.n_threads())
      heads_per_item = (heads_per_item + 1) / 2;
    const int64_t parts = (group_ + heads_per_item - 1) / heads_per_item;
    pass.pool.run(n_items * parts, [&](int64_t item, int worker) {
      const int64_t first_head = item % parts * heads_per_item;
      attend(pass, pass.ws.workers[static_cast<size_t>(worker)],
             pass.attention_blocks[static_cast<size_t>(item / parts / n_kv_heads_)],
             {item / parts % n_kv_heads_, first_head, std::min(heads_per_item, group_ - first_head)});
    });
  }

 private:
  [[nodiscard]] float* query(const Pass& pass, int64_t row, int64_t head) const {
    return pass.ws.in.row(row) + columns_.q + head * 2 * head_dim_;  // its gate follows
  }

  /// Norm and rotation of one row's K head and of the queries that use it; K and V go to the cache.
  void prepare(Pass& pass, int64_t row, int64_t kv_head) const {
    const float* cos = pass.ws.cos + row * (rope_dims_ / 2);
    const float* sin = pass.ws.sin + row * (rope_dims_ / 2);
    const auto turn = [&](float* x, const std::vector<float>& norm) {
      pass.kernels.rms_norm(x, norm.data(), eps_, head_dim_, x);
      pass.kernels.rope(x, cos, sin, rope_dims_);
    };
    for (int64_t i = 0; i < group_; ++i) turn(query(pass, row, kv_head * group_ + i), w_.q_norm);
    float* k = pass.ws.in.row(row) + columns_.k + kv_head * head_dim_;
    const float* v = pass.ws.in.row(row) + columns_.v + kv_head * head_dim_;
    turn(k, w_.k_norm);
    const SliceRows& slice = pass.slices[static_cast<size_t>(pass.slice_of[static_cast<size_t>(row)])];
    const int64_t position = slice.position + row - slice.row;
    k_format_.encode(k, nullptr, slice.sequence->k_row(layer_, kv_head, position), head_dim_);
    v_format_.encode(v, nullptr, slice.sequence->v_row(layer_, kv_head, position), head_dim_);
  }

  /// Query heads [first, first + n) of a KV head's group.
  struct Heads {
    int64_t kv_head = 0;
    int64_t first = 0;
    int64_t n = 0;
  };

  [[nodiscard]] int64_t spans_of(const Pass& pass, const AttentionBlock& block) const {
    const SliceRows& slice = pass.slices[static_cast<size_t>(block.slice)];
    return (slice.position + block.row + block.n_rows - slice.row + span_tokens_ - 1) / span_tokens_;
  }

  /// Lists the queries of some heads for the rows of a block, and where their results go.
  int64_t list_queries(const Pass& pass, WorkerScratch& scratch, const AttentionBlock& block,
                       Heads heads) const {
    int64_t n_q = 0;
    for (int64_t row = block.row; row < block.row + block.n_rows; ++row)
      for (int64_t i = 0; i < heads.n; ++i, ++n_q) {
        const int64_t head = heads.kv_head * group_ + heads.first + i;
        scratch.queries[n_q] = query(pass, row, head);
        scratch.outputs[n_q] = pass.ws.mixed.row(row) + head * head_dim_;
      }
    return n_q;
  }

  /// Attention of the listed queries over one span of the cache, to where they are listed to go.
  void attend_span(const Pass& pass, WorkerScratch& scratch, const AttentionBlock& block, Heads heads,
                   int64_t span, float* largest, float* total) const {
    const SliceRows& slice = pass.slices[static_cast<size_t>(block.slice)];
    const int64_t begin = span * span_tokens_;
    int64_t n_q = 0;
    for (int64_t row = block.row; row < block.row + block.n_rows; ++row) {
      const int64_t visible = slice.position + row - slice.row + 1 - begin;
      for (int64_t i = 0; i < heads.n; ++i)
        scratch.n_visible[n_q++] = static_cast<int32_t>(std::clamp<int64_t>(visible, 0, span_tokens_));
    }
    kernels::AttentionArgs args;
    args.q = scratch.queries;
    args.out = scratch.outputs;
    args.n_visible = scratch.n_visible;
    args.n_q = n_q;
    args.head_dim = head_dim_;
    args.k_pages = slice.sequence->k_pages(layer_, heads.kv_head).data() + begin / cache::kPageTokens;
    args.v_pages = slice.sequence->v_pages(layer_, heads.kv_head).data() + begin / cache::kPageTokens;
    args.k_row_bytes = k_row_bytes_;
    args.v_row_bytes = v_row_bytes_;
    args.page_tokens = cache::kPageTokens;
    args.k_type = k_format_.type;
    args.v_type = v_format_.type;
    args.scale = 1.0f / std::sqrt(static_cast<float>(head_dim_));
    args.largest = largest;
    args.total = total;
    args.scratch = scratch.attention;
    pass.kernels.attention(args);
  }

  /// Adds query i of a later span to what the spans before it have come to (as the kernel does for pages).
  void join(float* out, float& largest, float& total, const AttentionPart& part, int64_t i) const {
    if (part.total[i] == 0) return;  // it sees nothing of the span
    const float top = std::max(largest, part.largest[i]);
    const float shrink = std::exp(largest - top), weight = std::exp(part.largest[i] - top);
    const float* more = part.out + i * head_dim_;
    for (int64_t d = 0; d < head_dim_; ++d) out[d] = shrink * out[d] + weight * more[d];
    total = shrink * total + weight * part.total[i];
    largest = top;
  }

  void finish(const Pass& pass, float* out, float total, const float* q) const {
    for (int64_t d = 0; d < head_dim_; ++d) out[d] /= total;
    pass.kernels.sigmoid_gate(out, q + head_dim_, head_dim_);
  }

  /// All spans, one after the other.
  void attend(Pass& pass, WorkerScratch& scratch, const AttentionBlock& block, Heads heads) const {
    const int64_t n_q = list_queries(pass, scratch, block, heads);
    attend_span(pass, scratch, block, heads, 0, scratch.sum.largest, scratch.sum.total);
    const int64_t n_spans = spans_of(pass, block);
    for (int64_t span = 1; span < n_spans; ++span) {
      for (int64_t i = 0; i < n_q; ++i) scratch.outputs[i] = scratch.part.out + i * head_dim_;
      attend_span(pass, scratch, block, heads, span, scratch.part.largest, scratch.part.total);
      list_queries(pass, scratch, block, heads);
      for (int64_t i = 0; i < n_q; ++i)
        join(scratch.outputs[i], scratch.sum.largest[i], scratch.sum.total[i], scratch.part, i);
    }
    for (int64_t i = 0; i < n_q; ++i)
      finish(pass, scratch.outputs[i], scratch.sum.total[i], scratch.queries[i]);
  }

  /// A block in the list of parts: span by span, in each KV head by KV head, in each query by query.
  struct BlockParts {
    const AttentionBlock* block = nullptr;
    int64_t n_spans = 0;
    int64_t n_queries = 0;    // of a part
    int64_t first_query = 0;  // of the block, in Workspace::parts
  };

  /// Calls work(parts) for every block.
  template <class Work>
  void for_each_block(const Pass& pass, Work&& work) const {
    BlockParts parts;
    for (const AttentionBlock& block : pass.attention_blocks) {
      parts.block = &block;
      parts.n_spans = spans_of(pass, block);
      parts.n_queries = block.n_rows * group_;
      work(parts);
      parts.first_query += parts.n_spans * n_kv_heads_ * parts.n_queries;
    }
  }

  [[nodiscard]] AttentionPart part_of(const Pass& pass, const BlockParts& parts, int64_t span,
                                      int64_t kv_head) const {
    const AttentionPart& all = pass.ws.parts;
    const int64_t first = parts.first_query + (span * n_kv_heads_ + kv_head) * parts.n_queries;
    return {all.out + first * head_dim_, all.largest + first, all.total + first};
  }

  /// Spans as work of their own, put together afterwards. False, and nothing done, when no block has several
  /// or there is no room for their parts.
  bool share_spans(Pass& pass) const {
    int64_t n_parts = 0, n_part_queries = 0;
    for_each_block(pass, [&](const BlockParts& parts) {
      n_parts += parts.n_spans * n_kv_heads_;
      n_part_queries += parts.n_spans * n_kv_heads_ * parts.n_queries;
    });
    const int64_t n_items = static_cast<int64_t>(pass.attention_blocks.size()) * n_kv_heads_;
    if (n_parts == n_items || n_part_queries > pass.ws.n_part_queries) return false;
    pass.pool.run(n_parts, [&](int64_t item, int worker) {
      for_each_block(pass, [&](const BlockParts& parts) {
        if (item >= 0 && item < parts.n_spans * n_kv_heads_)
          attend_part(pass, pass.ws.workers[static_cast<size_t>(worker)], parts, item / n_kv_heads_,
                      item % n_kv_heads_);
        item -= parts.n_spans * n_kv_heads_;
      });
    });
    pass.pool.run(n_items, [&](int64_t item, int worker) {
      for_each_block(pass, [&](const BlockParts& parts) {
        if (item >= 0 && item < n_kv_heads_)
          join_parts(pass, pass.ws.workers[static_cast<size_t>(worker)], parts, item);
        item -= n_kv_heads_;
      });
    });
    return true;
  }

  void attend_part(const Pass& pass, WorkerScratch& scratch, const BlockParts& parts, int64_t span,
                   int64_t kv_head) const {
    const Heads heads{kv_head, 0, group_};
    const AttentionPart part = part_of(pass, parts, span, kv_head);
    list_queries(pass, scratch, *parts.block, heads);
    for (int64_t i = 0; i < parts.n_queries; ++i) scratch.outputs[i] = part.out + i * head_dim_;
    attend_span(pass, scratch, *parts.block, heads, span, part.largest, part.total);
  }

  void join_parts(const Pass& pass, WorkerScratch& scratch, const BlockParts& parts, int64_t kv_head) const {
    list_queries(pass, scratch, *parts.block, {kv_head, 0, group_});
    const AttentionPart first = part_of(pass, parts, 0, kv_head);
    for (int64_t i = 0; i < parts.n_queries; ++i) {
      float* const sum = first.out + i * head_dim_;
      for (int64_t span = 1; span < parts.n_spans; ++span)
        join(sum, first.largest[i], first.total[i], part_of(pass, parts, span, kv_head), i);
      std::copy(sum, sum + head_dim_, scratch.outputs[i]);
      finish(pass, scratch.outputs[i], first.total[i], scratch.queries[i]);
    }
  }

  int layer_;
  const AttentionWeights& w_;
  AttentionColumns columns_;
  float eps_;
  int64_t n_kv_heads_;
  int64_t group_;  // query heads for each KV head
  int64_t head_dim_;
  int64_t rope_dims_;
  const quant::Format& k_format_;
  const quant::Format& v_format_;
  int64_t k_row_bytes_;
  int64_t v_row_bytes_;
  int64_t span_tokens_;
};

}  // namespace

std::unique_ptr<Step> make_attention(int layer, const Hparams& hparams, const cache::Layout& layout,
                                     const AttentionWeights& weights, int64_t span_tokens) {
  return std::make_unique<Attention>(layer, hparams, layout, weights, span_tokens);
}

}  // namespace packmule::model
