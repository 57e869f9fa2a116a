#include "model/attention.h"

#include <algorithm>
#include <cmath>

namespace packmule::model {
namespace {

class Attention final : public Step {
 public:
  Attention(int layer, const Hparams& h, const cache::Layout& layout, const AttentionWeights& weights)
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
        v_row_bytes_(layout.v_row_bytes()) {}

  void run(Pass& pass) const override {
    pass.pool.run(pass.n_rows * n_kv_heads_,
                  [&](int64_t item, int) { prepare(pass, item / n_kv_heads_, item % n_kv_heads_); });
    // A KV head is read once for all query heads of its group, unless that leaves threads without work.
    const auto n_blocks = static_cast<int64_t>(pass.attention_blocks.size());
    int64_t heads_per_item = group_;
    while (heads_per_item > 1 && n_blocks * n_kv_heads_ * (group_ / heads_per_item) < pass.pool.n_threads())
      heads_per_item = (heads_per_item + 1) / 2;
    const int64_t parts = (group_ + heads_per_item - 1) / heads_per_item;
    pass.pool.run(n_blocks * n_kv_heads_ * parts, [&](int64_t item, int worker) {
      const int64_t first_head = item % parts * heads_per_item;
      attend(pass, pass.ws.workers[static_cast<size_t>(worker)],
             pass.attention_blocks[static_cast<size_t>(item / parts / n_kv_heads_)],
             item / parts % n_kv_heads_, first_head, std::min(heads_per_item, group_ - first_head));
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
    k_format_.encode(k, nullptr,
                     slice.sequence->k_row(layer_, kv_head, position),
                     head_dim_);
    v_format_.encode(v, nullptr,
                     slice.sequence->v_row(layer_, kv_head, position),
                     head_dim_);
  }

  /// Query heads [first, first + n) of a KV head's group, for the rows of a block.
  void attend(Pass& pass, WorkerScratch& scratch, const AttentionBlock& block, int64_t kv_head, int64_t first,
              int64_t n) const {
    const SliceRows& slice = pass.slices[static_cast<size_t>(block.slice)];
    int64_t n_q = 0;
    for (int64_t row = block.row; row < block.row + block.n_rows; ++row)
      for (int64_t head = kv_head * group_ + first; head < kv_head * group_ + first + n; ++head, ++n_q) {
        scratch.queries[n_q] = query(pass, row, head);
        scratch.outputs[n_q] = pass.ws.mixed.row(row) + head * head_dim_;
        scratch.n_visible[n_q] = static_cast<int32_t>(slice.position + row - slice.row + 1);
      }
    kernels::AttentionArgs args;
    args.q = scratch.queries;
    args.out = scratch.outputs;
    args.n_visible = scratch.n_visible;
    args.n_q = n_q;
    args.head_dim = head_dim_;
    args.k_pages = slice.sequence->k_pages(layer_, kv_head).data();
    args.v_pages = slice.sequence->v_pages(layer_, kv_head).data();
    args.k_row_bytes = k_row_bytes_;
    args.v_row_bytes = v_row_bytes_;
    args.page_tokens = cache::kPageTokens;
    args.k_type = k_format_.type;
    args.v_type = v_format_.type;
    args.scale = 1.0f / std::sqrt(static_cast<float>(head_dim_));
    args.scratch = scratch.attention;
    pass.kernels.attention(args);
    for (int64_t i = 0; i < n_q; ++i)
      pass.kernels.sigmoid_gate(scratch.outputs[i], scratch.queries[i] + head_dim_, head_dim_);
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
};

}  // namespace

std::unique_ptr<Step> make_attention(int layer, const Hparams& hparams, const cache::Layout& layout,
                                     const AttentionWeights& weights) {
  return std::make_unique<Attention>(layer, hparams, layout, weights);
}

}  // namespace packmule::model
