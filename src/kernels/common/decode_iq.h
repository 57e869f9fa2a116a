// Decoders of the codebook formats IQ1, IQ2 and IQ3. What a decoder consists of: decode_small.h.
//
// A grid entry of quant/codebooks.h is already eight (or four) codes as bytes, so a group of 32 is four (or
// eight) table loads and one sign change for all of them.
#pragma once

#include "kernels/common/decode_small.h"
#include "quant/iq1_m.h"
#include "quant/iq1_s.h"
#include "quant/iq2_s.h"
#include "quant/iq2_xs.h"
#include "quant/iq2_xxs.h"
#include "quant/iq3_s.h"
#include "quant/iq3_xxs.h"

namespace packmule::kernels {
namespace {

inline __m256i four_entries(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return _mm256_setr_epi64x(static_cast<int64_t>(a), static_cast<int64_t>(b), static_cast<int64_t>(c),
                            static_cast<int64_t>(d));
}

/// entry(0) to entry(7), in registers: gathered in memory they would be waited for at the load of all.
template <class Entry>
[[gnu::always_inline]] inline __m256i eight_entries(Entry&& entry) {
  const auto at = [&](int i) { return static_cast<int>(entry(i)); };
  return _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
}

/// Four seven-bit sign indices, lowest first, as 32 sign bits.
inline uint32_t signs_of_indices(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const uint8_t* signs = quant::kIq2Signs.at;
  return signs[a] | static_cast<uint32_t>(signs[b]) << 8 | static_cast<uint32_t>(signs[c]) << 16 |
         static_cast<uint32_t>(signs[d]) << 24;
}

/// The sign bits of IQ2_XXS and IQ3_XXS: four indices of seven bits in a row.
inline uint32_t packed_signs(uint32_t bits) {
  return signs_of_indices(bits & 127, bits >> 7 & 127, bits >> 14 & 127, bits >> 21 & 127);
}

/// d * (0.5 + stored) * 0.25 for the two nibbles of each of eight bytes: IQ2_XS, IQ2_S.
inline void open_iq2_scales(float d, const uint8_t* stored, float* scale) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(stored));
  const __m128i pairs = _mm_unpacklo_epi8(bytes, _mm_srli_epi16(bytes, 4));
  const __m128i nibbles_in_order = _mm_and_si128(pairs, _mm_set1_epi8(15));
  for (int half = 0; half < 2; ++half) {
    const __m128i eight = half == 0 ? nibbles_in_order : _mm_srli_si128(nibbles_in_order, 8);
    const __m256 number =
        _mm256_add_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)), _mm256_set1_ps(0.5f));
    const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(d), number), _mm256_set1_ps(0.25f));
    _mm256_store_ps(scale + 8 * half, scaled);
  }
}

struct DecodeIQ2_XXS {
  using Block = quant::BlockIQ2_XXS;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    for (int g = 0; g < 8; ++g) {
      const uint32_t stored = load_u32(block.group[g].signs_scale) >> 28;
      s.scale[g] = d * (0.5f + static_cast<float>(stored)) * 0.25f;
    }
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const Block::Group& group = block.group[g];
    const uint64_t* grid = quant::kIq2XxsGrid.at;
    const __m256i magnitudes =
        four_entries(grid[group.index[0]], grid[group.index[1]], grid[group.index[2]], grid[group.index[3]]);
    return negate_where(spread_bits(packed_signs(load_u32(group.signs_scale))), magnitudes);
  }
};

struct DecodeIQ2_XS {
  using Block = quant::BlockIQ2_XS;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 2;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<16, false>& s) {
    open_iq2_scales(half_bits_to_float(block.d) * unit, block.scale, s.scale);
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const uint16_t* entry = block.entry + 4 * g;
    const uint64_t* grid = quant::kIq2XsGrid.at;
    const __m256i magnitudes =
        four_entries(grid[entry[0] & 511], grid[entry[1] & 511], grid[entry[2] & 511], grid[entry[3] & 511]);
    const uint32_t signs = signs_of_indices(entry[0] >> 9, entry[1] >> 9, entry[2] >> 9, entry[3] >> 9);
    return negate_where(spread_bits(signs), magnitudes);
  }
};

struct DecodeIQ2_S {
  using Block = quant::BlockIQ2_S;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 2;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<16, false>& s) {
    open_iq2_scales(half_bits_to_float(block.d) * unit, block.scale, s.scale);
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const uint8_t* index = block.index + 4 * g;
    const uint32_t high = block.index_high[g];
    const uint64_t* grid = quant::kIq2SGrid.at;
    const __m256i magnitudes =
        four_entries(grid[index[0] | (high & 3) << 8], grid[index[1] | (high >> 2 & 3) << 8],
                     grid[index[2] | (high >> 4 & 3) << 8], grid[index[3] | (high >> 6 & 3) << 8]);
    return negate_where(spread_bits(load_u32(block.sign + 4 * g)), magnitudes);
  }
};

struct DecodeIQ3_XXS {
  using Block = quant::BlockIQ3_XXS;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    for (int g = 0; g < 8; ++g) {
      const uint32_t stored = load_u32(block.signs_scale[g]) >> 28;
      s.scale[g] = d * (0.5f + static_cast<float>(stored)) * 0.5f;
    }
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const uint8_t* index = block.index + 8 * g;
    const uint32_t signs = packed_signs(load_u32(block.signs_scale[g]));
    return negate_where(spread_bits(signs),
                        eight_entries([&](int i) { return quant::kIq3XxsGrid.at[index[i]]; }));
  }
};

struct DecodeIQ3_S {
  using Block = quant::BlockIQ3_S;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    for (int g = 0; g < 8; ++g) {
      const int stored = block.scale[g / 2] >> (4 * (g % 2)) & 15;
      s.scale[g] = d * static_cast<float>(1 + 2 * stored);
    }
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const uint8_t* index = block.index + 8 * g;
    const uint32_t high = block.index_high[g];
    return negate_where(spread_bits(load_u32(block.sign + 4 * g)), eight_entries([&](int i) {
                          return quant::kIq3SGrid.at[index[i] | (high >> i & 1) << 8];
                        }));
  }
};

// grid + shift is a multiple of 1/8: the codes of IQ1 are 8 * grid +- 1 and the scales an eighth, which loses
// no bit (the smallest scale, 2^-24, is far from the denormals).
constexpr float kIq1CodeUnit = quant::kIq1Delta;

/// 8 * grid + shift codes; bit 0 of shift byte masks: 0xff where the shift is negative.
inline __m256i iq1_codes(__m256i grid, __m256i negative) {
  // Values -1, 0, 1 times 8: the bits shifted out of a byte into its neighbour are cleared.
  const __m256i times_8 =
      _mm256_and_si256(_mm256_slli_epi16(grid, 3), _mm256_set1_epi8(static_cast<char>(0xf8)));
  return _mm256_add_epi8(times_8, _mm256_or_si256(negative, _mm256_set1_epi8(1)));
}

struct DecodeIQ1_S {
  using Block = quant::BlockIQ1_S;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    for (int g = 0; g < 8; ++g)
      s.scale[g] = d * static_cast<float>(2 * (block.group[g] >> 12 & 7) + 1) * kIq1CodeUnit;
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const uint8_t* index = block.index + 4 * g;
    const uint32_t group = block.group[g];
    const uint64_t* grid = quant::kIq1SGrid.at;
    const __m256i values =
        four_entries(grid[index[0] | (group & 7) << 8], grid[index[1] | (group >> 3 & 7) << 8],
                     grid[index[2] | (group >> 6 & 7) << 8], grid[index[3] | (group >> 9 & 7) << 8]);
    return iq1_codes(values, _mm256_set1_epi8((group & 0x8000u) != 0 ? -1 : 0));
  }
};

struct DecodeIQ1_M {
  using Block = quant::BlockIQ1_M;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 2;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<16, false>& s) {
    uint32_t d_bits = 0;
    for (int i = 0; i < 4; ++i) d_bits |= static_cast<uint32_t>(block.scales[i] >> 12) << (4 * i);
    const float d = half_bits_to_float(static_cast<uint16_t>(d_bits)) * unit;
    for (int k = 0; k < 16; ++k) {
      const int stored = block.scales[k / 4] >> (3 * (k % 4)) & 7;
      s.scale[k] = d * static_cast<float>(2 * stored + 1) * kIq1CodeUnit;
    }
  }
  template <int>
  static __m256i codes(const Block& block, int g) {
    const uint8_t* index = block.index + 4 * g;
    const uint32_t first = block.high_shift[2 * g];
    const uint32_t second = block.high_shift[2 * g + 1];
    const uint64_t* grid = quant::kIq1SGrid.at;
    const __m256i values =
        four_entries(grid[index[0] | (first & 7) << 8], grid[index[1] | (first >> 4 & 7) << 8],
                     grid[index[2] | (second & 7) << 8], grid[index[3] | (second >> 4 & 7) << 8]);
    // Bit 3 of a nibble: the shift of eight weights is negative.
    const __m256i negative =
        four_entries(all_if(first & 8), all_if(first & 128), all_if(second & 8), all_if(second & 128));
    return iq1_codes(values, negative);
  }

 private:
  static uint64_t all_if(uint32_t bit) { return bit != 0 ? ~uint64_t{0} : 0; }
};

}  // namespace
}  // namespace packmule::kernels
