// Decoders of the formats with 32 or 64 weights a block.
//
// A decoder says how a block becomes codes and scales:
//   Block            its struct; kGroups groups of 32 weights lie in it
//   kScales          scales per group: 1, or 2 (one for 16 weights)
//   kOffset          whether an offset is added: weight = scale * code + offset
//   open(block, s)   writes the scales (and offsets) of all groups, in the rounding order of
//   quant/<format>.cpp codes<g>(block)  the codes of group g as signed bytes
// Integer dot products (integer_matmul.h) multiply the codes and apply the scales to sums; reader.h makes
// floats.
#pragma once

#include "kernels/common/bytes.h"
#include "quant/codebooks.h"
#include "quant/iq4_nl.h"
#include "quant/mxfp4.h"
#include "quant/nvfp4.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q8_0.h"

namespace packmule::kernels {
namespace {

/// Scales and offsets of one block; the offsets are there only where a format has them.
template <int kCount, bool kOffset>
struct BlockScales {
  alignas(32) float scale[kCount];
};
template <int kCount>
struct BlockScales<kCount, true> {
  alignas(32) float scale[kCount];
  alignas(32) float offset[kCount];
};

struct DecodeQ4_0 {
  using Block = quant::BlockQ4_0;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<1, false>& s) {
    s.scale[0] = half_bits_to_float(block.d) * unit;
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return _mm256_sub_epi8(nibbles(block.q), _mm256_set1_epi8(8));
  }
};

struct DecodeQ4_1 {
  using Block = quant::BlockQ4_1;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = true;
  static void open(const Block& block, float unit, BlockScales<1, true>& s) {
    s.scale[0] = half_bits_to_float(block.d) * unit;
    s.offset[0] = half_bits_to_float(block.m);
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return nibbles(block.q);
  }
};

/// Five-bit codes: four in the nibbles, the fifth in a bit mask.
inline __m256i five_bit_codes(const uint8_t* q, const uint8_t* high) {
  const __m256i fifth = _mm256_and_si256(spread_bits(load_u32(high)), _mm256_set1_epi8(16));
  return _mm256_or_si256(nibbles(q), fifth);
}

struct DecodeQ5_0 {
  using Block = quant::BlockQ5_0;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<1, false>& s) {
    s.scale[0] = half_bits_to_float(block.d) * unit;
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return _mm256_sub_epi8(five_bit_codes(block.q, block.high), _mm256_set1_epi8(16));
  }
};

struct DecodeQ5_1 {
  using Block = quant::BlockQ5_1;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = true;
  static void open(const Block& block, float unit, BlockScales<1, true>& s) {
    s.scale[0] = half_bits_to_float(block.d) * unit;
    s.offset[0] = half_bits_to_float(block.m);
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return five_bit_codes(block.q, block.high);
  }
};

struct DecodeQ8_0 {
  using Block = quant::BlockQ8_0;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<1, false>& s) {
    s.scale[0] = half_bits_to_float(block.d) * unit;
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return load_32(block.q);
  }
};

struct DecodeIQ4_NL {
  using Block = quant::BlockIQ4_NL;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<1, false>& s) {
    s.scale[0] = half_bits_to_float(block.d) * unit;
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return look_up(quant::kIq4Values.at, nibbles(block.q));
  }
};

struct DecodeMXFP4 {
  using Block = quant::BlockMXFP4;
  static constexpr int kGroups = 1, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  // The smallest scales are denormal already: a unit below 1 would cost them bits.
  static constexpr bool kTinyScales = true;
  static void open(const Block& block, float unit, BlockScales<1, false>& s) {
    s.scale[0] = quant::mxfp4_scale(block.exponent) * unit;
  }
  template <int>
  static __m256i codes(const Block& block, int) {
    return look_up(quant::kFp4DoubledValues.at, nibbles(block.q));
  }
};

struct DecodeNVFP4 {
  using Block = quant::BlockNVFP4;
  static constexpr int kGroups = 2, kPeriod = 1, kScales = 2;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<4, false>& s) {
    for (int i = 0; i < 4; ++i) s.scale[i] = quant::nvfp4_half_scale(block.scale[i]) * unit;
  }
  template <int>
  static __m256i codes(const Block& block, int group) {
    // Two sub-blocks of 8 bytes: each is eight low nibbles, then the same bytes' high nibbles.
    const __m128i bytes = load_16(block.q + 16 * group);
    const __m128i high = _mm_srli_epi16(bytes, 4);
    const __m256i pairs = _mm256_set_m128i(_mm_unpackhi_epi64(bytes, high), _mm_unpacklo_epi64(bytes, high));
    return look_up(quant::kFp4DoubledValues.at, _mm256_and_si256(pairs, _mm256_set1_epi8(15)));
  }
};

}  // namespace
}  // namespace packmule::kernels
