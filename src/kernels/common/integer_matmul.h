// Products of packed blocks with activations that were rounded to bytes (QuantizedRow), for any number of
// tokens.
//
// Thirty-two codes of a row of weights and thirty-two of a token are multiplied and added as integers, four
// neighbours to a lane, which is exact; the eight sums become floats and go to the accumulator of the output
// element by FMA with the product of both scales. Formats with offsets add offset * (sum of activations) at
// the end of each block. The lanes are summed in a fixed tree. Neither rows nor tokens worked on beside an
// element change the order of its sum: tiles only decide which independent sums are worked on together.
//
// Nothing is decoded to memory: codes are unpacked in registers for up to four tokens. Where there are four
// tokens and more, their codes are first laid side by side in scratch, so that a tile reads one stream and
// not four, and a strip of rows stays in the first-level cache while the tokens pass by.
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
    const int64_t packable = args.n_tokens / kQuad * kQuad;
    const int64_t max_tokens = packed_tokens(args.n_cols);
    for (int64_t first = 0; first < packable; first += max_tokens) {
      const int64_t n_tokens = smaller(max_tokens, packable - first);
      pack(args, first, n_tokens);
      for (int64_t row = args.row_begin; row < args.row_end; row += kStrip)
        for (int64_t token = 0; token < n_tokens; token += kQuad)
          for (int64_t r = row; r < smaller(row + kStrip, args.row_end); r += 2)
            packed_tile(args, r, first + token, Quad::in(args.scratch, token, args.n_cols));
    }
    for (int64_t row = args.row_begin; row < args.row_end && packable < args.n_tokens; row += 4) {
      int64_t token = packable;
      if (token + 2 <= args.n_tokens) {
        tile<2, 2>(args, row, token);
        tile<2, 2>(args, row + 2, token);
        token += 2;
      }
      if (token < args.n_tokens) tile<4, 1>(args, row, token);
    }
  }

 private:
  using Block = typename Decoder::Block;
  static constexpr int kScales = Decoder::kGroups * Decoder::kScales;
  using State = BlockScales<kScales, Decoder::kOffset>;
  static constexpr int64_t kQuad = 4;
  /// Rows whose weights stay in the first-level cache beside four tokens.
  static constexpr int64_t kStrip = 8;

  /// Four tokens in scratch: for each group of 32 columns their codes, [4][32], and their scales, [4].
  struct Quad {
    int8_t* codes;
    float* scales;
    static constexpr int64_t bytes(int64_t n_cols) { return kQuad * (n_cols + n_cols / kQuantizedGroup * 4); }
    static Quad in(float* scratch, int64_t token, int64_t n_cols) {
      auto* begin = reinterpret_cast<int8_t*>(scratch) + token / kQuad * bytes(n_cols);
      return {begin, reinterpret_cast<float*>(begin + kQuad * n_cols)};
    }
  };

  /// As many as scratch has room for; they stay in the second-level cache while the rows of a call pass by.
  static int64_t packed_tokens(int64_t n_cols) {
    const int64_t room = panel_rows(n_cols) * panel_row_floats(n_cols) * static_cast<int64_t>(sizeof(float));
    return smaller(64, room / Quad::bytes(n_cols) * kQuad);
  }

  static void pack(const MatmulArgs& args, int64_t first, int64_t n_tokens) {
    for (int64_t token = 0; token < n_tokens; token += kQuad) {
      const Quad quad = Quad::in(args.scratch, token, args.n_cols);
      for (int64_t t = 0; t < kQuad; ++t) {
        const QuantizedRow& row = args.quantized[first + token + t];
        for (int64_t g = 0; g < args.n_cols / kQuantizedGroup; ++g) {
          const __m256i codes = load_32(row.codes + g * kQuantizedGroup);
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(quad.codes + (g * kQuad + t) * kQuantizedGroup),
                              codes);
          quad.scales[g * kQuad + t] = row.scales[g];
        }
      }
    }
  }

  /// Rows row and row + 1 (if it is asked for) of four tokens.
  static void packed_tile(const MatmulArgs& args, int64_t row, int64_t token, const Quad& x) {
    constexpr int kRows = 2;
    const Block* blocks[kRows];
    const int64_t n_rows = smaller(kRows, args.row_end - row);
    for (int r = 0; r < kRows; ++r) blocks[r] = row_blocks(args, row + smaller(r, n_rows - 1));
    __m256 sum[kRows][kQuad];
    for (int r = 0; r < kRows; ++r)
      for (int t = 0; t < kQuad; ++t) sum[r][t] = _mm256_setzero_ps();
    const int8_t* codes = x.codes;
    const float* scales = x.scales;
    const int64_t n_blocks = args.n_cols / Block::kElems;
    for (int64_t b = 0; b < n_blocks; ++b) {
      State state[kRows];
      for (int r = 0; r < kRows; ++r) Decoder::open(blocks[r][b], 1.0f, state[r]);
      for (int first = 0; first < Decoder::kGroups; first += Decoder::kPeriod) {
        unrolled<Decoder::kPeriod>([&](auto phase) __attribute__((always_inline)) {
          const int group = first + phase.value;
          alignas(16) float products[kRows][Decoder::kScales][kQuad];
          for (int r = 0; r < kRows; ++r)
            for (int i = 0; i < Decoder::kScales; ++i)
              _mm_store_ps(products[r][i],
                           _mm_mul_ps(_mm_broadcast_ss(&state[r].scale[group * Decoder::kScales + i]),
                                      _mm_loadu_ps(scales)));
          __m256i weights[kRows];
          for (int r = 0; r < kRows; ++r)
            weights[r] = Decoder::template codes<phase.value>(blocks[r][b], first);
          for (int t = 0; t < kQuad; ++t) {
            const __m256i activations = load_32(codes + t * kQuantizedGroup);
            for (int r = 0; r < kRows; ++r) {
              const __m256 dots = _mm256_cvtepi32_ps(multiply_codes(weights[r], activations));
              __m256 scale;
              if constexpr (Decoder::kScales == 1) {
                scale = _mm256_broadcast_ss(&products[r][0][t]);
              } else {
                scale = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_broadcast_ss(&products[r][0][t])),
                                             _mm_broadcast_ss(&products[r][1][t]), 1);
              }
              sum[r][t] = _mm256_fmadd_ps(dots, scale, sum[r][t]);
            }
          }
          codes += kQuad * kQuantizedGroup;
          scales += kQuad;
        });
      }
      if constexpr (Decoder::kOffset)
        for (int r = 0; r < kRows; ++r)
          for (int t = 0; t < kQuad; ++t)
            sum[r][t] = add_offsets(state[r].offset,
                                    args.quantized[token + t].sums + b * Decoder::kGroups * 2, sum[r][t]);
    }
    for (int64_t r = 0; r < n_rows; ++r) {
      alignas(16) float result[kQuad];
      _mm_store_ps(result, _mm_mul_ps(sum_8_lanes(sum[r][0], sum[r][1], sum[r][2], sum[r][3]),
                                      _mm_set1_ps(args.scale)));
      for (int t = 0; t < kQuad; ++t) args.y[token + t][row + r] = result[t];
    }
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
    const int64_t ahead = 4 * args.row_bytes;
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
