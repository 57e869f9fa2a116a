// Attention over a paged cache, written once over the vector primitives of an instruction set (S is a
// folder's OpsSimd).
//
// The pages are walked once, and all queries of the call meet each: scores, then the online softmax (Milakov
// and Gimelshein, 2018: what was summed under a smaller maximum is scaled down when a larger one turns up),
// then the weighted sum of V, whose sum over the page is added to the sum so far (two short sums lose less
// than one of 262,144 terms). K and V are decoded to float32 once a call, kAttentionTile rows at a time,
// which stay in the first-level cache for all queries.
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
  static constexpr int kMaxQueries = S::kTileAccumulators / kKeys < 4 ? S::kTileAccumulators / kKeys : 4;

  /// Float rows of a tile, decoded or as the cache holds them.
  struct Rows {
    const float* first;
    int64_t stride;
    [[nodiscard]] const float* at(int64_t token) const { return first + token * stride; }
  };

  explicit Attention(const AttentionArgs& args)
      : args_(args),
        tile_(args.scratch),
        scores_(tile_ + kAttentionTile * args.head_dim),
        score_stride_(attention_score_floats(args.page_tokens)),
        sums_(scores_ + args.n_q * score_stride_),
        largest_(sums_ + args.n_q * args.head_dim),
        total_(largest_ + args.n_q),
        shrink_(total_ + args.n_q) {}

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
      const Cache k(args_.k_pages[page], args_.k_type, args_.k_row_bytes, args_.head_dim);
      const Cache v(args_.v_pages[page], args_.v_type, args_.v_row_bytes, args_.head_dim);
      const bool is_last = first + args_.page_tokens >= n_tokens;
      for (int64_t begin = 0; begin < n; begin += kAttentionTile) {
        const Rows rows = rows_of(k, begin, smaller(kAttentionTile, n - begin), decoders);
        begin + kAttentionTile < n ? k.fetch(begin + kAttentionTile) : v.fetch(0);
        for_groups(first, begin, [&]<int kQueries>(int64_t i, int64_t end) {
          for (int64_t j = begin; j < end; j += kKeys) score<kQueries>(i, rows, begin, j, end);
        });
      }
      for (int64_t i = 0; i < args_.n_q; ++i)
        if (visible_of(i, first) > 0) shrink_[i] = soften(i, visible_of(i, first));
      for (int64_t begin = 0; begin < n; begin += kAttentionTile) {
        const Rows rows = rows_of(v, begin, smaller(kAttentionTile, n - begin), decoders);
        if (begin + kAttentionTile < n)
          v.fetch(begin + kAttentionTile);
        else if (!is_last)
          Cache(args_.k_pages[page + 1], k.type, k.row_bytes, args_.head_dim).fetch(0);
        for_groups(first, begin, [&]<int kQueries>(int64_t i, int64_t end) {
          add_values<kQueries>(i, rows, begin, end, end == visible_of(i, first));
        });
      }
    }
    for (int64_t i = 0; i < args_.n_q; ++i) {
      if (args_.total != nullptr) {
        args_.largest[i] = largest_[i];
        args_.total[i] = total_[i];
        continue;
      }
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

  /// A page of K or V.
  struct Cache {
    Cache(const void* page_, quant::Type type_, int64_t row_bytes_, int64_t head_dim)
        : page(static_cast<const uint8_t*>(page_)),
          type(type_),
          row_bytes(row_bytes_),
          head_bytes(quant::row_bytes(quant::format_of(type), head_dim)) {}
    /// Asks for the tile at row `begin`.
    void fetch(int64_t begin) const {
      const uint8_t* row = page + begin * row_bytes;
      for (int64_t t = 0; t < kAttentionTile; ++t, row += row_bytes)
        for (int64_t byte = 0; byte < head_bytes + 63; byte += 64)
          _mm_prefetch(reinterpret_cast<const char*>(row + byte), _MM_HINT_T0);
    }
    const uint8_t* page;
    quant::Type type;
    int64_t row_bytes;   // from a token to the next
    int64_t head_bytes;  // of a token's row of this head
  };

  /// Rows [begin, begin + n) of a page.
  Rows rows_of(const Cache& cache, int64_t begin, int64_t n, const quant::DecodeFn* decoders) const {
    const uint8_t* bytes = cache.page + begin * cache.row_bytes;
    if (cache.type == quant::Type::kF32)
      return {reinterpret_cast<const float*>(bytes), cache.row_bytes / static_cast<int64_t>(sizeof(float))};
    const quant::DecodeFn decode = decoders[static_cast<uint32_t>(cache.type)];
    for (int64_t t = 0; t < n; ++t)
      decode(bytes + t * cache.row_bytes, tile_ + t * args_.head_dim, args_.head_dim);
    return {tile_, args_.head_dim};
  }

  /// Calls work<kQueries>(i, end) for queries [i, i + kQueries), which see the tokens of the tile that begins
  /// at `begin` of the page up to `end`, and at least one; the page begins at token `first`.
  template <class Work>
  [[gnu::always_inline]] void for_groups(int64_t first, int64_t begin, Work&& work) const {
    for (int64_t i = 0; i < args_.n_q;) {
      const int64_t visible = visible_of(i, first);
      int64_t count = 1;
      while (count < kMaxQueries && i + count < args_.n_q && visible_of(i + count, first) == visible) ++count;
      const int64_t end = smaller(visible, begin + kAttentionTile);
      if (end > begin) {
        if (count == 1) work.template operator()<1>(i, end);
        if (count == 2) work.template operator()<2>(i, end);
        if (count == 3) work.template operator()<3>(i, end);
        if constexpr (kMaxQueries == 4)
          if (count == 4) work.template operator()<4>(i, end);
      }
      i += count;
    }
  }

  /// Scores of tokens [j, j + kKeys) of the page, in a tile that begins at `begin`; from `end` on the last
  /// token is scored again and the result overwritten by soften() or the next tile.
  template <int kQueries>
  [[gnu::always_inline]] void score(int64_t i, Rows k, int64_t begin, int64_t j, int64_t end) const {
    const float* const* q = args_.q + i;
    const float* key[kKeys];
    for (int b = 0; b < kKeys; ++b) key[b] = k.at(smaller(j + b, end - 1) - begin);
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
      _mm_storeu_ps(scores_ + (i + a) * score_stride_ + j, _mm_mul_ps(four, _mm_set1_ps(args_.scale)));
    }
  }

  /// Turns scores into exp(score - maximum so far), updates the query's maximum and sum, and returns the
  /// factor by which what it summed before must shrink.
  float soften(int64_t i, int64_t visible) {
    float* scores = scores_ + i * score_stride_;
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

  /// Adds p * V for tokens [begin, end) of the page to the page's sums of queries [i, i + kQueries), which
  /// begin with the page; with its last tokens they go to the output.
  template <int kQueries>
  [[gnu::always_inline]] void add_values(int64_t i, Rows v, int64_t begin, int64_t end, bool last) const {
    int64_t d = 0;
    for (; d + 4 * kWidth <= args_.head_dim; d += 4 * kWidth)
      add_columns<kQueries, 4>(i, v, begin, end, last, d, WholeVector<S>{});
    for (; d + kWidth <= args_.head_dim; d += kWidth)
      add_columns<kQueries, 1>(i, v, begin, end, last, d, WholeVector<S>{});
    if (d < args_.head_dim)
      add_columns<kQueries, 1>(i, v, begin, end, last, d, FirstLanes<S>{args_.head_dim - d});
  }

  template <int kQueries, int kVectors, class Part>
  [[gnu::always_inline]] void add_columns(int64_t i, Rows v, int64_t begin, int64_t end, bool last, int64_t d,
                                          Part part) const {
    float* const sums = sums_ + i * args_.head_dim + d;
    const float* const p_of = scores_ + i * score_stride_;
    Floats sum[kQueries][kVectors];
    for (int a = 0; a < kQueries; ++a)
      for (int b = 0; b < kVectors; ++b)
        sum[a][b] = begin == 0 ? S::zero() : part.load(sums + a * args_.head_dim + b * kWidth);
    const float* row = v.first + d;
    for (int64_t j = begin; j < end; ++j, row += v.stride) {
      Floats value[kVectors];
      for (int b = 0; b < kVectors; ++b) value[b] = part.load(row + b * kWidth);
      for (int a = 0; a < kQueries; ++a) {
        const Floats p = S::set(p_of[a * score_stride_ + j]);
        for (int b = 0; b < kVectors; ++b) sum[a][b] = S::fma(p, value[b], sum[a][b]);
      }
    }
    for (int a = 0; a < kQueries; ++a)
      for (int b = 0; b < kVectors; ++b) {
        float* to = args_.out[i + a] + d + b * kWidth;
        if (last)
          part.store(to, S::fma(part.load(to), S::set(shrink_[i + a]), sum[a][b]));
        else
          part.store(sums + a * args_.head_dim + b * kWidth, sum[a][b]);
      }
  }

  const AttentionArgs& args_;
  float* tile_;    // [kAttentionTile, head_dim]
  float* scores_;  // [n_q, score_stride_]
  int64_t score_stride_;
  float* sums_;     // [n_q, head_dim], over a page
  float* largest_;  // [n_q]
  float* total_;    // [n_q]
  float* shrink_;   // [n_q], by which the output shrinks before a page's sum is added
};

}  // namespace
}  // namespace packmule::kernels
