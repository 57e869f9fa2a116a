// The register tiles that multiply a panel of decoded rows with all tokens of a call, and what every matmul's
// sum is made of (see matmul.h).
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/common/numbers.h"
#include "kernels/common/panel.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

constexpr int64_t kColumnBlock = 512;

/// Sums of the lanes of four vectors; each by the same tree, so its place among the four does not matter.
[[gnu::always_inline]] inline __m128 sum_8_lanes(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256 abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

template <class S>
[[gnu::always_inline]] inline __m128 sum_lanes(typename S::Floats a, typename S::Floats b,
                                               typename S::Floats c, typename S::Floats d) {
  return sum_8_lanes(S::fold_to_8(a), S::fold_to_8(b), S::fold_to_8(c), S::fold_to_8(d));
}

/// The panel lies in args.scratch: column block by column block, in each row after row; columns padded with
/// zeros to 16, rows to kPanelRowMultiple.
template <class S>
struct PanelTiles {
  using Floats = typename S::Floats;

  /// y[t][row + r] for all tokens of the call and the n_rows rows of the panel.
  static void multiply(const MatmulArgs& args, int64_t row, int64_t n_rows, int64_t padded_rows) {
    int64_t token = 0;
    for (; token + 4 <= args.n_tokens; token += 4) multiply_tokens<4>(args, row, n_rows, padded_rows, token);
    switch (args.n_tokens - token) {
      case 3:
        return multiply_tokens<3>(args, row, n_rows, padded_rows, token);
      case 2:
        return multiply_tokens<2>(args, row, n_rows, padded_rows, token);
      case 1:
        return multiply_tokens<1>(args, row, n_rows, padded_rows, token);
      default:
        return;
    }
  }

 private:
  /// totals[r][t] += the sum over one column block, for kRows rows of the panel and kTokens tokens.
  template <int kRows, int kTokens>
  static void tile(const float* w, int64_t width, const float* const* x, int64_t n_cols, float* totals) {
    Floats sum[kRows][4];
    for (int r = 0; r < kRows; ++r)
      for (int t = 0; t < 4; ++t) sum[r][t] = S::zero();
    const int64_t full = n_cols - n_cols % S::kWidth;
    const float* x_of[kTokens];
    for (int t = 0; t < kTokens; ++t) x_of[t] = x[t];
    for (int64_t c = 0; c < full; c += S::kWidth) {
      Floats activation[kTokens];
      for (int t = 0; t < kTokens; ++t) activation[t] = S::load(x_of[t] + c);
      for (int r = 0; r < kRows; ++r) {
        const Floats weight = S::load(w + r * width + c);
        for (int t = 0; t < kTokens; ++t) sum[r][t] = S::fma(weight, activation[t], sum[r][t]);
      }
    }
    if (full < n_cols) {
      for (int r = 0; r < kRows; ++r) {
        const Floats weight = S::load(w + r * width + full);
        for (int t = 0; t < kTokens; ++t)
          sum[r][t] = S::fma(weight, S::load_first(x_of[t] + full, n_cols - full), sum[r][t]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      const __m128 partial = sum_lanes<S>(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
      _mm_store_ps(totals + 4 * r, _mm_add_ps(_mm_load_ps(totals + 4 * r), partial));
    }
  }

  /// All rows of the panel for up to four tokens.
  template <int kTokens>
  static void multiply_tokens(const MatmulArgs& args, int64_t row, int64_t n_rows, int64_t padded_rows,
                              int64_t token) {
    // A tile divides kPanelRowMultiple, and rows past n_rows up to a tile's end are zeros.
    constexpr int kWanted = S::kTileAccumulators / kTokens;
    constexpr int kRows = kWanted >= 12 ? 12 : kWanted >= 6 ? 6 : kWanted >= 4 ? 4 : 3;
    alignas(16) float totals[kPanelMaxRows * 4];
    std::memset(totals, 0, static_cast<size_t>(padded_rows) * 4 * sizeof(float));
    const float* x[kTokens];
    for (int64_t begin = 0; begin < args.n_cols; begin += kColumnBlock) {
      const int64_t n_cols = smaller(kColumnBlock, args.n_cols - begin);
      const int64_t width = panel_row_floats(n_cols);
      const float* w = args.scratch + begin * padded_rows;
      for (int t = 0; t < kTokens; ++t) x[t] = args.x[token + t] + begin;
      for (int64_t r = 0; r < n_rows; r += kRows)
        tile<kRows, kTokens>(w + r * width, width, x, n_cols, totals + 4 * r);
    }
    for (int t = 0; t < kTokens; ++t) {
      float* y = args.y[token + t] + row;
      for (int64_t r = 0; r < n_rows; ++r) y[r] = totals[4 * r + t] * args.scale;
    }
  }
};

}  // namespace
}  // namespace packmule::kernels
