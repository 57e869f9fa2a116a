// Products of packed blocks with activations that were rounded to bytes (QuantizedRow), for any number of
// tokens.
//
// Thirty-two codes of a row of weights and thirty-two of a token are multiplied and added as integers, four
// neighbours to a lane, which is exact; the eight sums become floats and go to the accumulator of the output
// element by FMA with the product of both scales. Formats with offsets add offset * (sum of activations) at
// the end of each block. The lanes are summed in a fixed tree. Neither rows nor tokens worked on beside an
// element change the order of its sum: tiles only decide which independent sums are worked on together.
//
// Nothing is decoded to memory: codes are unpacked in registers for up to four tokens, and a strip of four
// rows stays in the first-level cache while the tokens pass by.
#pragma once

#include <immintrin.h>

#include "kernels/common/panel_tiles.h"
#include "kernels/common/reader.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

template <class S, class Decoder>
class IntegerMatmul {
 public:
  static void run(const MatmulArgs& args) {
    for (int64_t first = 0; first < args.n_tokens; first += kTokenBlock) {
      const int64_t end = smaller(first + kTokenBlock, args.n_tokens);
      for (int64_t row = args.row_begin; row < args.row_end; row += kStrip) strip(args, row, first, end);
    }
  }

 private:
  using Block = typename Decoder::Block;
  static constexpr int kScales = Decoder::kGroups * Decoder::kScales;
  using State = BlockScales<kScales, Decoder::kOffset>;
  static constexpr int64_t kStrip = 4;
  /// Their codes stay in the second-level cache while the rows of a call pass by.
  static constexpr int64_t kTokenBlock = 64;

  /// Rows [row, row + kStrip), as far as they are asked for, for tokens [token, end).
  static void strip(const MatmulArgs& args, int64_t row, int64_t token, int64_t end) {
    for (; token + 4 <= end; token += 4)
      for (int r = 0; r < kStrip; ++r) tile<1, 4>(args, row + r, token);
    if (token + 2 <= end) {
      tile<2, 2>(args, row, token);
      tile<2, 2>(args, row + 2, token);
      token += 2;
    }
    if (token < end) tile<4, 1>(args, row, token);
  }

  static const Block* row_blocks(const MatmulArgs& args, int64_t row) {
    return reinterpret_cast<const Block*>(static_cast<const uint8_t*>(args.weights) + row * args.row_bytes);
  }

  template <int kRows, int kTokens>
  static void tile(const MatmulArgs& args, int64_t row, int64_t token) {
    static_assert(kRows * kTokens == 4);
    const int64_t n_rows = smaller(kRows, args.row_end - row);
    if (n_rows <= 0) return;
    const Block* blocks[kRows];
    for (int r = 0; r < kRows; ++r) {
      // The last rows may be fewer: a row is then summed twice and stored once.
      blocks[r] = row_blocks(args, row + smaller(r, n_rows - 1));
    }
    __m256 sum[kRows][kTokens];
    for (int r = 0; r < kRows; ++r)
      for (int t = 0; t < kTokens; ++t) sum[r][t] = _mm256_setzero_ps();
    const int64_t n_blocks = args.n_cols / Block::kElems;
    const int64_t ahead = kStrip * args.row_bytes;
    for (int64_t b = 0; b < n_blocks; ++b)
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kTokens == 1) prefetch(reinterpret_cast<const uint8_t*>(blocks[r] + b) + ahead);
        add_block<kTokens>(blocks[r][b], args.quantized + token, b, sum[r]);
      }
    const __m128 totals =
        _mm_mul_ps(sum_8_lanes(sum[0][0], sum[1 / kTokens][1 % kTokens], sum[2 / kTokens][2 % kTokens],
                               sum[3 / kTokens][3 % kTokens]),
                   _mm_set1_ps(args.scale));
    alignas(16) float result[kRows][kTokens];
    _mm_store_ps(&result[0][0], totals);
    for (int64_t r = 0; r < n_rows; ++r)
      for (int t = 0; t < kTokens; ++t) args.y[token + t][row + r] = result[r][t];
  }

  [[gnu::always_inline]] static void prefetch(const uint8_t* block) {
    for (size_t offset = 0; offset < sizeof(Block); offset += 64)
      _mm_prefetch(reinterpret_cast<const char*>(block) + offset, _MM_HINT_T0);
  }

  template <int kTokens>
  [[gnu::always_inline]] static void add_block(const Block& block, const QuantizedRow* x, int64_t b,
                                               __m256* sum) {
    State state;
    Decoder::open(block, 1.0f, state);
    alignas(32) float scales[kTokens][kScales];
    for (int t = 0; t < kTokens; ++t)
      multiply_scales(state.scale, x[t].scales + b * Decoder::kGroups, scales[t]);
    for (int first = 0; first < Decoder::kGroups; first += Decoder::kPeriod) {
      unrolled<Decoder::kPeriod>([&](auto phase) __attribute__((always_inline)) {
        const int group = first + phase.value;
        const __m256i codes = Decoder::template codes<phase.value>(block, first);
        for (int t = 0; t < kTokens; ++t) {
          const __m256i activations = load_32(x[t].codes + b * Block::kElems + kGroupElems * group);
          const __m256 products = _mm256_cvtepi32_ps(multiply_codes(codes, activations));
          sum[t] = _mm256_fmadd_ps(products, group_scale(scales[t], group), sum[t]);
        }
      });
    }
    if constexpr (Decoder::kOffset)
      for (int t = 0; t < kTokens; ++t)
        sum[t] = add_offsets(state.offset, x[t].sums + b * Decoder::kGroups * 2, sum[t]);
  }

  /// Sums of four products each. Codes of formats with an offset are not negative; for the others the sign of
  /// the weight goes to the activation, as the instruction wants one unsigned factor.
  [[gnu::always_inline]] static __m256i multiply_codes(__m256i codes, __m256i activations) {
    if constexpr (Decoder::kOffset) return S::dot_bytes(codes, activations);
    return S::dot_bytes(_mm256_abs_epi8(codes), _mm256_sign_epi8(activations, codes));
  }

  /// out[i] = scale of weights i * scale of the activations it meets.
  [[gnu::always_inline]] static void multiply_scales(const float* weights, const float* activations,
                                                     float* out) {
    if constexpr (Decoder::kGroups == 8) {
      const __m256 x = _mm256_loadu_ps(activations);
      if constexpr (Decoder::kScales == 1) {
        _mm256_store_ps(out, _mm256_mul_ps(_mm256_loadu_ps(weights), x));
      } else {
        const __m256 low = _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
        const __m256 high = _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
        _mm256_store_ps(out, _mm256_mul_ps(_mm256_loadu_ps(weights), low));
        _mm256_store_ps(out + 8, _mm256_mul_ps(_mm256_loadu_ps(weights + 8), high));
      }
    } else {
      for (int i = 0; i < kScales; ++i) out[i] = weights[i] * activations[i / Decoder::kScales];
    }
  }

  /// The scale of each lane of a group: lanes 0 to 3 are its first sixteen weights.
  [[gnu::always_inline]] static __m256 group_scale(const float* scales, int group) {
    if constexpr (Decoder::kScales == 1) return _mm256_broadcast_ss(scales + group);
    const __m128 first = _mm_broadcast_ss(scales + 2 * group);
    return _mm256_insertf128_ps(_mm256_castps128_ps256(first), _mm_broadcast_ss(scales + 2 * group + 1), 1);
  }

  /// sum + offset * (sum of the activations it is added to), spread over the lanes in a fixed way. `sums` are
  /// of sixteen activations each.
  [[gnu::always_inline]] static __m256 add_offsets(const float* offsets, const float* sums, __m256 sum) {
    if constexpr (Decoder::kGroups == 8 && Decoder::kScales == 1) {
      const __m256 halves = _mm256_hadd_ps(_mm256_loadu_ps(sums), _mm256_loadu_ps(sums + 8));
      const __m256 groups = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(halves), 0xd8));
      return _mm256_fmadd_ps(_mm256_loadu_ps(offsets), groups, sum);
    } else if constexpr (Decoder::kGroups == 8) {
      sum = _mm256_fmadd_ps(_mm256_loadu_ps(offsets), _mm256_loadu_ps(sums), sum);
      return _mm256_fmadd_ps(_mm256_loadu_ps(offsets + 8), _mm256_loadu_ps(sums + 8), sum);
    } else {
      static_assert(kScales == 1, "no small format has several offsets");
      const __m128 offset = _mm_mul_ss(_mm_load_ss(offsets), _mm_set_ss(sums[0] + sums[1]));
      return _mm256_add_ps(sum, _mm256_zextps128_ps256(offset));
    }
  }
};

}  // namespace
}  // namespace packmule::kernels
