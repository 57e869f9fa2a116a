// What the block decoders share: 32 codes as the bytes of one 256-bit register. Both AVX2 and AVX-512 work on
// codes this way; they part where codes become floats (simd.h of each).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace packmule::kernels {
namespace {

inline float half_bits_to_float(uint16_t bits) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

inline uint32_t load_u32(const void* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

inline uint64_t load_u64(const void* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

inline __m128i load_16(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

inline __m256i load_32(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

/// Every byte shifted right by kShift and cut to the bits of mask (which must not reach past 8 - kShift
/// bits).
template <int kShift>
inline __m256i bit_field(__m256i bytes, int mask) {
  const __m256i shifted = kShift == 0 ? bytes : _mm256_srli_epi16(bytes, kShift);
  return _mm256_and_si256(shifted, _mm256_set1_epi8(static_cast<char>(mask)));
}

/// Codes of 16 bytes: the low nibbles, then the high ones.
inline __m256i nibbles(const uint8_t* p) {
  const __m128i bytes = load_16(p);
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

/// Byte w is 0xff where bit w is set, else 0.
inline __m256i spread_bits(uint32_t bits) {
  const __m256i byte_of_bit = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2,
                                               2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i own_bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), byte_of_bit);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, own_bit), own_bit);
}

/// Negates the bytes where mask is 0xff.
inline __m256i negate_where(__m256i mask, __m256i bytes) {
  return _mm256_sub_epi8(_mm256_xor_si256(bytes, mask), mask);
}

/// table[code] for every byte, codes 0..15.
inline __m256i look_up(const int8_t* table, __m256i codes) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_16(table)), codes);
}

/// Eight unsigned (or signed) bytes, as floats times factor, to out.
inline void store_scaled_u8(uint64_t bytes, float factor, float* out) {
  const __m256i numbers = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
  _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(numbers), _mm256_set1_ps(factor)));
}

inline void store_scaled_i8(uint64_t bytes, float factor, float* out) {
  const __m256i numbers = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
  _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(numbers), _mm256_set1_ps(factor)));
}

}  // namespace
}  // namespace packmule::kernels
