// Decoders of the 256-weight formats without a codebook: the K formats, IQ4_XS and the ternary ones.
// What a decoder consists of: decode_small.h.
#pragma once

#include "kernels/common/decode_small.h"
#include "quant/iq4_xs.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_k.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/tq1_0.h"
#include "quant/tq2_0.h"

namespace packmule::kernels {
namespace {

/// Two-bit codes of group first + phase, four to a byte: Q2_K, Q3_K, TQ2_0.
template <int kPhase>
inline __m256i two_bit_codes(const uint8_t* q, int first) {
  return bit_field<2 * kPhase>(load_32(q + 8 * first), 3);
}

/// Four-bit codes of group first + phase, two to a byte: Q4_K, Q5_K.
template <int kPhase>
inline __m256i four_bit_codes(const uint8_t* q, int first) {
  return bit_field<4 * (kPhase % 2)>(load_32(q + 16 * first + 32 * (kPhase / 2)), 15);
}

/// Scales and minima of Q4_K and Q5_K, all eight at once (quant/k_scales.h draws the twelve bytes).
inline void open_k_scales(float d, float dmin, const uint8_t* packed, BlockScales<8, true>& s) {
  const uint32_t first = load_u32(packed);
  const uint32_t second = load_u32(packed + 4);
  const uint32_t third = load_u32(packed + 8);
  const uint64_t scale_low = first & 0x3f3f3f3fu;
  const uint64_t minimum_low = second & 0x3f3f3f3fu;
  const uint64_t scale_high = (third & 0x0f0f0f0fu) | (first >> 2 & 0x30303030u);
  const uint64_t minimum_high = (third >> 4 & 0x0f0f0f0fu) | (second >> 2 & 0x30303030u);
  store_scaled_u8(scale_low | scale_high << 32, d, s.scale);
  store_scaled_u8(minimum_low | minimum_high << 32, -dmin, s.offset);
}

struct DecodeQ2_K {
  using Block = quant::BlockQ2_K;
  static constexpr int kGroups = 8, kPeriod = 4, kScales = 2;
  static constexpr bool kOffset = true;
  static void open(const Block& block, float unit, BlockScales<16, true>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    const float minus_dmin = -half_bits_to_float(block.dmin);
    for (int half = 0; half < 2; ++half) {
      const uint64_t bytes = load_u64(block.scale_min + 8 * half);
      store_scaled_u8(bytes & 0x0f0f0f0f0f0f0f0fu, d, s.scale + 8 * half);
      store_scaled_u8(bytes >> 4 & 0x0f0f0f0f0f0f0f0fu, minus_dmin, s.offset + 8 * half);
    }
  }
  template <int kPhase>
  static __m256i codes(const Block& block, int first) {
    return two_bit_codes<kPhase>(block.q, first);
  }
};

struct DecodeQ3_K {
  using Block = quant::BlockQ3_K;
  static constexpr int kGroups = 8, kPeriod = 4, kScales = 2;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<16, false>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    const uint64_t low = load_u64(block.scales);
    const uint64_t upper = load_u32(block.scales + 8);
    const uint64_t upper_first = (upper | upper << 30) & 0x0303030303030303u;      // groups 0..7
    const uint64_t upper_last = (upper >> 4 | upper << 26) & 0x0303030303030303u;  // groups 8..15
    store_scaled_i8(minus_32((low & 0x0f0f0f0f0f0f0f0fu) | upper_first << 4), d, s.scale);
    store_scaled_i8(minus_32((low >> 4 & 0x0f0f0f0f0f0f0f0fu) | upper_last << 4), d, s.scale + 8);
  }
  template <int kPhase>
  static __m256i codes(const Block& block, int first) {
    // The third bit is stored inverted: where it is clear, 4 is taken away.
    const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << (first + kPhase)));
    const __m256i clear =
        _mm256_cmpeq_epi8(_mm256_and_si256(load_32(block.high), bit), _mm256_setzero_si256());
    return _mm256_sub_epi8(two_bit_codes<kPhase>(block.q, first),
                           _mm256_and_si256(clear, _mm256_set1_epi8(4)));
  }

 private:
  // Every byte (0..63) less 32, as a signed byte: adding 0xe0 without carries into the next byte.
  static uint64_t minus_32(uint64_t bytes) {
    constexpr uint64_t kSigns = 0x8080808080808080u;
    return ((bytes | kSigns) - 0x2020202020202020u) ^ kSigns;
  }
};

struct DecodeQ4_K {
  using Block = quant::BlockQ4_K;
  static constexpr int kGroups = 8, kPeriod = 2, kScales = 1;
  static constexpr bool kOffset = true;
  static void open(const Block& block, float unit, BlockScales<8, true>& s) {
    open_k_scales(half_bits_to_float(block.d) * unit, half_bits_to_float(block.dmin), block.scales, s);
  }
  template <int kPhase>
  static __m256i codes(const Block& block, int first) {
    return four_bit_codes<kPhase>(block.q, first);
  }
};

struct DecodeQ5_K {
  using Block = quant::BlockQ5_K;
  static constexpr int kGroups = 8, kPeriod = 8, kScales = 1;
  static constexpr bool kOffset = true;
  static void open(const Block& block, float unit, BlockScales<8, true>& s) {
    open_k_scales(half_bits_to_float(block.d) * unit, half_bits_to_float(block.dmin), block.scales, s);
  }
  template <int kGroup>
  static __m256i codes(const Block& block, int) {
    // Bit g of a byte of `high`, moved to bit 4.
    const __m256i high = load_32(block.high);
    const __m256i moved = kGroup < 4 ? _mm256_slli_epi16(high, kGroup < 4 ? 4 - kGroup : 0)
                                     : _mm256_srli_epi16(high, kGroup < 4 ? 0 : kGroup - 4);
    return _mm256_or_si256(four_bit_codes<kGroup>(block.q, 0), _mm256_and_si256(moved, _mm256_set1_epi8(16)));
  }
};

struct DecodeQ6_K {
  using Block = quant::BlockQ6_K;
  static constexpr int kGroups = 8, kPeriod = 4, kScales = 2;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<16, false>& s) {
    const float d = half_bits_to_float(block.d) * unit;
    store_scaled_i8(load_u64(block.scale), d, s.scale);
    store_scaled_i8(load_u64(block.scale + 8), d, s.scale + 8);
  }
  template <int kPhase>
  static __m256i codes(const Block& block, int first) {
    const __m256i q = load_32(block.q + 16 * first + 32 * (kPhase % 2));
    const __m256i low = bit_field<4 * (kPhase / 2)>(q, 15);
    const __m256i high = load_32(block.high + 8 * first);
    // Two bits at 2 * kPhase, moved to bits 4 and 5.
    const __m256i moved = kPhase < 2 ? _mm256_slli_epi16(high, kPhase < 2 ? 4 - 2 * kPhase : 0)
                                     : _mm256_srli_epi16(high, kPhase < 2 ? 0 : 2 * kPhase - 4);
    const __m256i code = _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(48)));
    return _mm256_sub_epi8(code, _mm256_set1_epi8(32));
  }
};

struct DecodeIQ4_XS {
  using Block = quant::BlockIQ4_XS;
  static constexpr int kGroups = 8, kPeriod = 1, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    const __m256i group = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low_bits = _mm256_set1_epi32(static_cast<int>(load_u32(block.scale_low)));
    const __m256i low =
        _mm256_and_si256(_mm256_srlv_epi32(low_bits, _mm256_slli_epi32(group, 2)), _mm256_set1_epi32(15));
    const __m256i high_bits = _mm256_set1_epi32(block.scale_high);
    const __m256i high =
        _mm256_and_si256(_mm256_srlv_epi32(high_bits, _mm256_slli_epi32(group, 1)), _mm256_set1_epi32(3));
    const __m256i stored = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
    const __m256 numbers = _mm256_cvtepi32_ps(_mm256_sub_epi32(stored, _mm256_set1_epi32(32)));
    _mm256_store_ps(s.scale, _mm256_mul_ps(numbers, _mm256_set1_ps(half_bits_to_float(block.d) * unit)));
  }
  template <int>
  static __m256i codes(const Block& block, int group) {
    return look_up(quant::kIq4Values.at, nibbles(block.q + 16 * group));
  }
};

struct DecodeTQ2_0 {
  using Block = quant::BlockTQ2_0;
  static constexpr int kGroups = 8, kPeriod = 4, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    _mm256_store_ps(s.scale, _mm256_set1_ps(half_bits_to_float(block.d) * unit));
  }
  template <int kPhase>
  static __m256i codes(const Block& block, int first) {
    return _mm256_sub_epi8(two_bit_codes<kPhase>(block.q, first), _mm256_set1_epi8(1));
  }
};

struct DecodeTQ1_0 {
  using Block = quant::BlockTQ1_0;
  static constexpr int kGroups = 8, kPeriod = 8, kScales = 1;
  static constexpr bool kOffset = false;
  static void open(const Block& block, float unit, BlockScales<8, false>& s) {
    _mm256_store_ps(s.scale, _mm256_set1_ps(half_bits_to_float(block.d) * unit));
  }
  template <int kGroup>
  static __m256i codes(const Block& block, int) {
    // Groups 0-4 are digit g of 32 bytes; 5, 6 and half of 7 two digits each of the next 16; the rest the
    // tail.
    constexpr int kPowers[5] = {1, 3, 9, 27, 81};
    if constexpr (kGroup < 5) {
      const __m256i power = _mm256_set1_epi8(static_cast<char>(kPowers[kGroup]));
      return digits_minus_1(load_32(block.q), power);
    } else {
      const __m128i bytes = load_16(block.q + 32);
      const __m128i power = _mm_set1_epi8(static_cast<char>(kPowers[2 * (kGroup - 5)]));
      if constexpr (kGroup < 7) {
        const __m128i next_power = _mm_set1_epi8(static_cast<char>(kPowers[2 * (kGroup - 5) + 1]));
        return digits_minus_1(_mm256_set_m128i(bytes, bytes), _mm256_set_m128i(next_power, power));
      } else {
        const __m128i tail = _mm_set1_epi32(static_cast<int>(load_u32(block.q_tail)));
        const __m128i tail_powers = _mm_setr_epi8(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27);
        return digits_minus_1(_mm256_set_m128i(tail, bytes), _mm256_set_m128i(tail_powers, power));
      }
    }
  }

 private:
  // (byte * power mod 256) * 3 / 256 - 1 in 16-bit lanes, even and odd bytes apart.
  static __m256i digits_minus_1(__m256i bytes, __m256i powers) {
    const __m256i low_byte = _mm256_set1_epi16(255);
    const __m256i three = _mm256_set1_epi16(3);
    const __m256i even = _mm256_and_si256(
        _mm256_mullo_epi16(_mm256_and_si256(bytes, low_byte), _mm256_and_si256(powers, low_byte)), low_byte);
    const __m256i odd = _mm256_and_si256(
        _mm256_mullo_epi16(_mm256_srli_epi16(bytes, 8), _mm256_srli_epi16(powers, 8)), low_byte);
    const __m256i even_digit = _mm256_srli_epi16(_mm256_mullo_epi16(even, three), 8);
    const __m256i odd_digit = _mm256_andnot_si256(low_byte, _mm256_mullo_epi16(odd, three));
    return _mm256_sub_epi8(_mm256_or_si256(even_digit, odd_digit), _mm256_set1_epi8(1));
  }
};

}  // namespace
}  // namespace packmule::kernels
