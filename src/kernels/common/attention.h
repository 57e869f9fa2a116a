// Attention over a paged cache, written once over the vector primitives of an instruction set (S is a
// folder's OpsSimd).
//
// The pages are walked once. A page is decoded to float32 once, and all queries of the call meet it: scores,
// then the online softmax (Milakov and Gimelshein, 2018: what was summed under a smaller maximum is scaled
// down when a larger one turns up), then the weighted sum of V, whose sum over the page is added to the sum
// so far (two short sums lose less than one of 262,144 terms).
//
// Queries that see equally much of a page are taken up to four together, which saves loads of K and V. It
// does not change their bits: a score is one FMA chain along head_dim with a fixed tree over its lanes, an
// element of the output one FMA chain along the page's tokens, whichever queries are beside it.
#pragma once

#include "kernels/common/attention_scratch.h"
#include "kernels/common/numbers.h"
#include "kernels/common/ops_math.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

template <class S>
class Attention {
 public:
  /// `decoders` by type id.
  static void run(const AttentionArgs& args, const quant::DecodeFn* decoders) {
    Attention(args).walk(decoders);
  }

 private:
  using Floats = typename S::Floats;
  static constexpr int64_t kWidth = S::kWidth;
  static constexpr int kKeys = 4;  // keys whose scores grow side by side
  static constexpr int kMaxQueries =
      S::kTileAccumulators / kKeys < kAttentionQueries ? S::kTileAccumulators / kKeys : kAttentionQueries;

  /// Float rows of a page, decoded or as the cache holds them.
  struct Rows {
    const float* first;
    int64_t stride;
    [[nodiscard]] const float* at(int64_t token) const { return first + token * stride; }
  };

  explicit Attention(const AttentionArgs& args)
      : args_(args),
        k_tile_(args.scratch),
        v_tile_(k_tile_ + args.page_tokens * args.head_dim),
        scores_(v_tile_ + args.page_tokens * args.head_dim),
        score_stride_(attention_score_floats(args.page_tokens)),
        largest_(scores_ + kAttentionQueries * score_stride_),
        total_(largest_ + args.n_q) {}

  void walk(const quant::DecodeFn* decoders) {
    int64_t n_tokens = 0;
    for (int64_t i = 0; i < args_.n_q; ++i) {
      if (args_.n_visible[i] > n_tokens) n_tokens = args_.n_visible[i];
      largest_[i] = -__builtin_inff();
      total_[i] = 0;
      float* out = args_.out[i];
      for_each_vector<S>(args_.head_dim, [=](int64_t d, auto part) { part.store(out + d, S::zero()); });
    }
    for (int64_t first = 0, page = 0; first < n_tokens; first += args_.page_tokens, ++page) {
      const int64_t n = smaller(args_.page_tokens, n_tokens - first);
      const Rows k = rows_of(args_.k_pages[page], args_.k_type, args_.k_row_bytes, n, k_tile_, decoders);
      const Rows v = rows_of(args_.v_pages[page], args_.v_type, args_.v_row_bytes, n, v_tile_, decoders);
      for (int64_t i = 0; i < args_.n_q;) {
        const int64_t visible = visible_of(i, first);
        int64_t count = 1;
        while (count < kMaxQueries && i + count < args_.n_q && visible_of(i + count, first) == visible)
          ++count;
        if (visible > 0) meet(i, count, k, v, visible);
        i += count;
      }
    }
    for (int64_t i = 0; i < args_.n_q; ++i) {
      const Floats total = S::set(total_[i]);
      float* out = args_.out[i];
      for_each_vector<S>(args_.head_dim, [=](int64_t d, auto part) {
        part.store(out + d, S::div(part.load(out + d), total));
      });
    }
  }

  /// How many of the page's tokens query i sees, page beginning at token `first`; 0 or less: none.
  [[nodiscard]] int64_t visible_of(int64_t i, int64_t first) const {
    const int64_t rest = args_.n_visible[i] - first;
    return rest < 0 ? 0 : smaller(rest, args_.page_tokens);
  }

  Rows rows_of(const void* page, quant::Type type, int64_t row_bytes, int64_t n, float* tile,
               const quant::DecodeFn* decoders) const {
    if (type == quant::Type::kF32)
      return {static_cast<const float*>(page), row_bytes / static_cast<int64_t>(sizeof(float))};
    const quant::DecodeFn decode = decoders[static_cast<uint32_t>(type)];
    const auto* bytes = static_cast<const unsigned char*>(page);
    for (int64_t t = 0; t < n; ++t) decode(bytes + t * row_bytes, tile + t * args_.head_dim, args_.head_dim);
    return {tile, args_.head_dim};
  }

  void meet(int64_t i, int64_t count, Rows k, Rows v, int64_t visible) {
    switch (count) {
      case 1:
        return meet_n<1>(i, k, v, visible);
      case 2:
        return meet_n<2>(i, k, v, visible);
      case 3:
        return meet_n<3>(i, k, v, visible);
      default:
        return meet_n<kMaxQueries>(i, k, v, visible);
    }
  }

  template <int kQueries>
  void meet_n(int64_t i, Rows k, Rows v, int64_t visible) {
    const float* q[kQueries];
    float* out[kQueries];
    float shrink[kQueries];
    for (int a = 0; a < kQueries; ++a) {
      q[a] = args_.q[i + a];
      out[a] = args_.out[i + a];
    }
    for (int64_t j = 0; j < visible; j += kKeys) score<kQueries>(q, k, j, visible);
    for (int a = 0; a < kQueries; ++a) shrink[a] = soften(i + a, scores_ + a * score_stride_, visible);
    int64_t d = 0;
    for (; d + 4 * kWidth <= args_.head_dim; d += 4 * kWidth)
      add_values<kQueries, 4>(out, shrink, v, d, visible, WholeVector<S>{});
    for (; d + kWidth <= args_.head_dim; d += kWidth)
      add_values<kQueries, 1>(out, shrink, v, d, visible, WholeVector<S>{});
    if (d < args_.head_dim)
      add_values<kQueries, 1>(out, shrink, v, d, visible, FirstLanes<S>{args_.head_dim - d});
  }

  /// Scores of tokens [j, j + kKeys); past the visible ones the last visible token is scored again and the
  /// result overwritten by soften().
  template <int kQueries>
  [[gnu::always_inline]] void score(const float* const (&q)[kQueries], Rows k, int64_t j, int64_t visible) {
    const float* key[kKeys];
    for (int b = 0; b < kKeys; ++b) key[b] = k.at(smaller(j + b, visible - 1));
    Floats sum[kQueries][kKeys];
    for (int a = 0; a < kQueries; ++a)
      for (int b = 0; b < kKeys; ++b) sum[a][b] = S::zero();
    for_each_vector<S>(args_.head_dim, [&](int64_t d, auto part) __attribute__((always_inline)) {
      Floats at_key[kKeys];
      for (int b = 0; b < kKeys; ++b) at_key[b] = part.load(key[b] + d);
      for (int a = 0; a < kQueries; ++a) {
        const Floats query = part.load(q[a] + d);
        for (int b = 0; b < kKeys; ++b) sum[a][b] = S::fma(query, at_key[b], sum[a][b]);
      }
    });
    for (int a = 0; a < kQueries; ++a) {
      const __m128 four = sums_of_lanes<S>(sum[a][0], sum[a][1], sum[a][2], sum[a][3]);
      _mm_storeu_ps(scores_ + a * score_stride_ + j, _mm_mul_ps(four, _mm_set1_ps(args_.scale)));
    }
  }

  /// Turns scores into exp(score - maximum so far), updates the query's maximum and sum, and returns the
  /// factor by which what it summed before must shrink.
  float soften(int64_t i, float* scores, int64_t visible) {
    int64_t padded = visible;
    for (; padded % kWidth != 0; ++padded) scores[padded] = -__builtin_inff();  // e^-inf adds nothing
    Floats most = S::set(largest_[i]);
    for (int64_t j = 0; j < padded; j += kWidth) most = S::max(S::load(scores + j), most);
    const float largest = max_of_lanes<S>(most);
    const Floats top = S::set(largest);
    Floats sum = S::zero();
    for (int64_t j = 0; j < padded; j += kWidth) {
      const Floats p = exp<S>(S::sub(S::load(scores + j), top));
      S::store(scores + j, p);
      sum = S::add(sum, p);
    }
    const float shrink = exp_of_one<S>(largest_[i] - largest);
    total_[i] = total_[i] * shrink + sum_of_lanes<S>(sum);
    largest_[i] = largest;
    return shrink;
  }

  /// out[d..] = shrink * out[d..] + sum over the page of p * V.
  template <int kQueries, int kVectors, class Part>
  [[gnu::always_inline]] void add_values(float* const (&out)[kQueries], const float (&shrink)[kQueries],
                                         Rows v, int64_t d, int64_t visible, Part part) const {
    Floats sum[kQueries][kVectors];
    for (int a = 0; a < kQueries; ++a)
      for (int b = 0; b < kVectors; ++b) sum[a][b] = S::zero();
    const float* row = v.first + d;
    for (int64_t j = 0; j < visible; ++j, row += v.stride) {
      Floats value[kVectors];
      for (int b = 0; b < kVectors; ++b) value[b] = part.load(row + b * kWidth);
      for (int a = 0; a < kQueries; ++a) {
        const Floats p = S::set(scores_[a * score_stride_ + j]);
        for (int b = 0; b < kVectors; ++b) sum[a][b] = S::fma(p, value[b], sum[a][b]);
      }
    }
    for (int a = 0; a < kQueries; ++a)
      for (int b = 0; b < kVectors; ++b) {
        float* to = out[a] + d + b * kWidth;
        part.store(to, S::fma(part.load(to), S::set(shrink[a]), sum[a][b]));
      }
  }

  const AttentionArgs& args_;
  float* k_tile_;
  float* v_tile_;
  float* scores_;  // [kAttentionQueries, score_stride_]
  int64_t score_stride_;
  float* largest_;  // [n_q]
  float* total_;    // [n_q]
};

}  // namespace
}  // namespace packmule::kernels
