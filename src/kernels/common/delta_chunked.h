// The gated delta rule in chunks of tokens, by matrix products (S is a folder's OpsSimd).
//
// Within a chunk that starts with state S0, let d(s,t] be the decay from after token s to token t, d(t] the
// one from the chunk's start. Token t writes k_t u_t^T, where u_t answers to what the state then holds:
//
//   u_t = beta_t (v_t - d(t] S0^T k_t - sum_{s<t} d(s,t] (k_s . k_t) u_s)
//
// This is a unit lower triangular system (I + A) U = R with A[t][s] = beta_t d(s,t] k_t . k_s, solved from
// the first token down. With P[t][s] = d(s,t] q_t . k_s for s <= t, and T the chunk's last token:
//
//   out_t = d(t] S0^T q_t + sum_{s<=t} P[t][s] u_s,     S = d(T] S0 + sum_t d(t,T] k_t u_t^T
//
// (Yang et al., 2024; the inverse of I + A is never formed, for U is wanted, not the inverse.) A and P are
// made once a chunk. All else is independent for each column of S and goes in panels of two vectors, so that
// S, U and the outputs of a panel stay in the first-level cache.
#pragma once

#include "kernels/common/delta_scratch.h"
#include "kernels/common/ops_math.h"

namespace packmule::kernels {
namespace {

template <class S>
class DeltaChunked {
 public:
  static void run(const DeltaArgs& args) {
    for (int64_t first = 0; first < args.n_tokens; first += kDeltaChunk) {
      const int64_t rest = args.n_tokens - first;
      DeltaChunked chunk(args, first, rest < kDeltaChunk ? rest : kDeltaChunk);
      chunk.copy_keys_and_queries();
      chunk.relate_tokens();
      for (int64_t begin = 0; begin < args.dv; begin += kPanel) chunk.panel(begin);
    }
  }

 private:
  using Floats = typename S::Floats;
  static constexpr int64_t kWidth = S::kWidth;
  static constexpr int kVectors = 2;
  static constexpr int64_t kPanel = kVectors * kWidth;
  static_assert(kPanel <= kDeltaPanelCols && kDeltaChunk % kPanel == 0);
  // Rows of the register tile: with two vectors a row this fills the registers beside the operands.
  static constexpr int kRows = S::kTileAccumulators >= 16 ? 8 : 6;
  using Tile = Floats[kRows][kVectors];

  DeltaChunked(const DeltaArgs& args, int64_t first, int64_t n)
      : args_(args),
        first_(first),
        n_(n),
        dk_(args.dk),
        rows_(args.scratch),
        k_transposed_(rows_ + 2 * kDeltaChunk * dk_),
        a_(k_transposed_ + kDeltaChunk * dk_),
        p_(a_ + kDeltaChunk * kDeltaChunk),
        state_(p_ + kDeltaChunk * kDeltaChunk),
        u_(state_ + dk_ * kPanel),
        out_(u_ + kDeltaChunk * kPanel) {}

  /// tile[r] = sum over j < depth of a[min(r, last)][j] * b[j][0..kPanel). Rows past the last repeat it:
  /// their sums are not used.
  [[gnu::always_inline]] static void multiply(const float* a, int64_t a_stride, int64_t last, const float* b,
                                              int64_t b_stride, int64_t depth, Tile& tile) {
    const float* row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = a + (r < last ? r : last) * a_stride;
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kVectors; ++c) tile[r][c] = S::zero();
    for (int64_t j = 0; j < depth; ++j, b += b_stride) {
      Floats factor[kVectors];
      for (int c = 0; c < kVectors; ++c) factor[c] = S::load(b + c * kWidth);
      for (int r = 0; r < kRows; ++r) {
        const Floats weight = S::set(row[r][j]);
        for (int c = 0; c < kVectors; ++c) tile[r][c] = S::fma(weight, factor[c], tile[r][c]);
      }
    }
  }

  // Heads lie far apart in memory, often by a power of two, which would make the rows of a chunk fall on the
  // same cache lines: copied close together they do not.
  void copy_keys_and_queries() {
    for (int64_t t = 0; t < n_; ++t) {
      const float* k = args_.k + (first_ + t) * args_.qk_stride;
      const float* q = args_.q + (first_ + t) * args_.qk_stride;
      for (int64_t i = 0; i < dk_; ++i) {
        rows_[t * dk_ + i] = k[i];
        rows_[(n_ + t) * dk_ + i] = q[i];
        k_transposed_[i * kDeltaChunk + t] = k[i];
      }
    }
    for (int64_t i = 0; i < dk_; ++i)
      for (int64_t t = n_; t < kDeltaChunk; ++t) k_transposed_[i * kDeltaChunk + t] = 0;
  }

  // e^x of a sum of log decays, which a float of its size could not hold to the digits that e^x needs.
  static double rest_of(double x) { return x - static_cast<float>(x); }
  static Floats exp_of_sum(Floats x, Floats rest) {
    const Floats e = exp<S>(x);
    return S::fma(e, rest, e);
  }

  /// Decays, A and P.
  void relate_tokens() {
    products(rows_, a_);
    products(rows_ + n_ * dk_, p_);

    double total[kDeltaChunk];
    double sum = 0;
    for (int64_t t = 0; t < n_; ++t) total[t] = sum += args_.g[(first_ + t) * args_.gate_stride];
    decays(n_, [&](int64_t t) { return total[t]; }, decay_);
    decays(n_, [&](int64_t t) { return total[n_ - 1] - total[t]; }, remaining_);

    for (int64_t t = 0; t < n_; ++t) {
      // After a strong decay this one product is the whole output, and may itself be near zero.
      p_[t * kDeltaChunk + t] = exact_dot(rows_ + (n_ + t) * dk_, rows_ + t * dk_, dk_);
      beta_[t] = args_.beta[(first_ + t) * args_.gate_stride];
      // Later tokens than t have no part in row t: their exponent, which would overflow, is never made.
      float between[kDeltaChunk];
      decays(t + 1, [&](int64_t s) { return total[t] - total[s]; }, between);
      const Floats beta = S::set(beta_[t]);
      for (int64_t s = 0; s < kDeltaChunk; s += kWidth) {
        float* a = a_ + t * kDeltaChunk + s;
        float* p = p_ + t * kDeltaChunk + s;
        const Floats decay = S::load(between + s);
        S::store(a, s <= t ? S::mul(S::load(a), S::mul(beta, decay)) : S::zero());
        S::store(p, s <= t ? S::mul(S::load(p), decay) : S::zero());
      }
    }
  }

  /// to[t][s] = rows[t] . k_s for s up to t and up to the end of t's tile at least.
  void products(const float* rows, float* to) const {
    for (int64_t t = 0; t < n_; t += kRows) {
      const int64_t last = (n_ - t < kRows ? n_ - t : kRows) - 1;
      for (int64_t s = 0; s <= t + last; s += kPanel) {
        Tile tile;
        multiply(rows + t * dk_, dk_, last, k_transposed_ + s, kDeltaChunk, dk_, tile);
        for (int r = 0; r < kRows; ++r)
          if (r <= last)
            for (int c = 0; c < kVectors; ++c)
              S::store(to + (t + r) * kDeltaChunk + s + c * kWidth, tile[r][c]);
      }
    }
  }

  /// to[i] = e^log_decay(i) for i < count, 0 from there to kDeltaChunk.
  template <class LogDecay>
  [[gnu::always_inline]] static void decays(int64_t count, LogDecay log_decay, float* to) {
    float rest[kDeltaChunk];
    for (int64_t i = 0; i < kDeltaChunk; ++i) {
      const double x = i < count ? log_decay(i) : 0.0;
      to[i] = i < count ? static_cast<float>(x) : -__builtin_inff();
      rest[i] = static_cast<float>(rest_of(x));
    }
    for (int64_t i = 0; i < kDeltaChunk; i += kWidth)
      S::store(to + i, exp_of_sum(S::load(to + i), S::load(rest + i)));
  }

  void panel(int64_t begin) {
    const int64_t n_cols = args_.dv - begin < kPanel ? args_.dv - begin : kPanel;
    for (int64_t i = 0; i < dk_; ++i)
      copy_in(args_.state + i * args_.dv + begin, n_cols, state_ + i * kPanel);
    for (int64_t t = 0; t < n_; ++t)
      copy_in(args_.v + (first_ + t) * args_.v_stride + begin, n_cols, u_ + t * kPanel);
    for (int64_t t = 0; t < n_; t += kRows) {
      const int64_t last = (n_ - t < kRows ? n_ - t : kRows) - 1;
      solve(t, last);
      read(t, last);
      for (int64_t r = 0; r <= last; ++r)
        copy_out(out_ + r * kPanel, n_cols, args_.out + (first_ + t + r) * args_.out_stride + begin);
    }
    for (int64_t t = 0; t < n_; ++t)
      for (int c = 0; c < kVectors; ++c) {
        float* u = u_ + t * kPanel + c * kWidth;
        S::store(u, S::mul(S::load(u), S::set(remaining_[t])));
      }
    write(begin, n_cols);
  }

  static void copy_in(const float* from, int64_t n, float* to) {
    for (int c = 0; c < kVectors; ++c) {
      const int64_t left = n - c * kWidth;
      S::store(to + c * kWidth, left >= kWidth ? S::load(from + c * kWidth)
                                : left > 0     ? S::load_first(from + c * kWidth, left)
                                               : S::zero());
    }
  }
  static void copy_out(const float* from, int64_t n, float* to) {
    for (int c = 0; c < kVectors; ++c) {
      const int64_t left = n - c * kWidth;
      if (left >= kWidth)
        S::store(to + c * kWidth, S::load(from + c * kWidth));
      else if (left > 0)
        S::store_first(to + c * kWidth, left, S::load(from + c * kWidth));
    }
  }

  /// Rows [t, t + last] of U, which hold V, from the rows before them.
  void solve(int64_t t, int64_t last) {
    Tile held, earlier;
    multiply(rows_ + t * dk_, dk_, last, state_, kPanel, dk_, held);
    for (int64_t r = 0; r <= last; ++r)
      for (int c = 0; c < kVectors; ++c) {
        float* u = u_ + (t + r) * kPanel + c * kWidth;
        const Floats fresh = S::fnma(S::set(decay_[t + r]), held[r][c], S::load(u));
        S::store(u, S::mul(S::set(beta_[t + r]), fresh));
      }
    multiply(a_ + t * kDeltaChunk, kDeltaChunk, last, u_, kPanel, t, earlier);
    for (int64_t r = 0; r <= last; ++r)
      for (int c = 0; c < kVectors; ++c) {
        float* u = u_ + (t + r) * kPanel + c * kWidth;
        Floats sum = earlier[r][c];
        for (int64_t s = t; s < t + r; ++s)
          sum = S::fma(S::set(a_[(t + r) * kDeltaChunk + s]), S::load(u_ + s * kPanel + c * kWidth), sum);
        S::store(u, S::sub(S::load(u), sum));
      }
  }

  /// Outputs of rows [t, t + last], left in out_. P is zero above its diagonal, so the tile may end with its
  /// last row.
  void read(int64_t t, int64_t last) {
    Tile held, inside;
    multiply(rows_ + (n_ + t) * dk_, dk_, last, state_, kPanel, dk_, held);
    multiply(p_ + t * kDeltaChunk, kDeltaChunk, last, u_, kPanel, t + last + 1, inside);
    for (int64_t r = 0; r <= last; ++r)
      for (int c = 0; c < kVectors; ++c)
        S::store(out_ + r * kPanel + c * kWidth, S::fma(S::set(decay_[t + r]), held[r][c], inside[r][c]));
  }

  /// The state after the chunk; U is scaled by the decay that is still to come.
  void write(int64_t begin, int64_t n_cols) {
    const Floats decay = S::set(decay_[n_ - 1]);
    for (int64_t i = 0; i < dk_; i += kRows) {
      const int64_t last = (dk_ - i < kRows ? dk_ - i : kRows) - 1;
      Tile added;
      multiply(k_transposed_ + i * kDeltaChunk, kDeltaChunk, last, u_, kPanel, n_, added);
      for (int64_t r = 0; r <= last; ++r) {
        float* state = state_ + (i + r) * kPanel;
        for (int c = 0; c < kVectors; ++c)
          S::store(state + c * kWidth, S::fma(decay, S::load(state + c * kWidth), added[r][c]));
        copy_out(state, n_cols, args_.state + (i + r) * args_.dv + begin);
      }
    }
  }

  const DeltaArgs& args_;
  int64_t first_;  // token of the call
  int64_t n_;      // tokens of the chunk
  int64_t dk_;
  float* rows_;                   // [2 * n, dk]: K, then Q
  float* k_transposed_;           // [dk, kDeltaChunk], zeros from n on
  float* a_;                      // [kDeltaChunk, kDeltaChunk]; on and above the diagonal unused
  float* p_;                      // [kDeltaChunk, kDeltaChunk]; zero above the diagonal
  float* state_;                  // [dk, kPanel]
  float* u_;                      // [kDeltaChunk, kPanel]
  float* out_;                    // [kRows, kPanel]
  float decay_[kDeltaChunk];      // from the chunk's start
  float remaining_[kDeltaChunk];  // to the chunk's end
  float beta_[kDeltaChunk];
};

}  // namespace
}  // namespace packmule::kernels
