// AVX-512 for processors that have none: the intrinsics our kernels use, computed by AVX2.
//
// The `avx512` preset puts this header before every file of src/kernels/avx512, so that their code runs, and
// is tested, anywhere. Most of it is SIMDe; below is what the version in Debian 12 lacks.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

namespace packmule::emulation {
namespace {

/// Two halves as one vector of AVX-512.
template <class Whole, class Half>
Whole join(Half low, Half high) {
  const Half halves[2] = {low, high};
  Whole whole;
  static_assert(sizeof whole == sizeof halves);
  std::memcpy(&whole, halves, sizeof whole);
  return whole;
}
/// A half, a quarter or a lane of it.
template <class Part, class Whole>
Part part_of(const Whole& whole, size_t which) {
  Part part;
  std::memcpy(&part, reinterpret_cast<const char*>(&whole) + which * sizeof part, sizeof part);
  return part;
}

inline __m512 cvtepi32_ps(__m512i v) {
  return join<__m512>(_mm256_cvtepi32_ps(part_of<__m256i>(v, 0)), _mm256_cvtepi32_ps(part_of<__m256i>(v, 1)));
}
inline __m512i cvtepi8_epi32(__m128i v) {
  return join<__m512i>(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(v, v)));
}
inline __m512i cvtepu8_epi32(__m128i v) {
  return join<__m512i>(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(v, v)));
}
inline __m512i srai_epi32(__m512i v, int count) {
  return join<__m512i>(_mm256_srai_epi32(part_of<__m256i>(v, 0), count),
                       _mm256_srai_epi32(part_of<__m256i>(v, 1), count));
}
/// The lower sixteen bits of each dword.
inline __m256i cvtepi32_epi16(__m512i v) {
  uint16_t words[16];
  for (int i = 0; i < 16; ++i) words[i] = static_cast<uint16_t>(part_of<uint32_t>(v, i));
  return part_of<__m256i>(words, 0);
}
inline __m512i cvtepu16_epi32(__m256i v) {
  return join<__m512i>(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                       _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
}
inline __m512 cvtph_ps(__m256i v) {
  return join<__m512>(_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                      _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}
inline __m256 extractf32x8_ps(__m512 v, int half) {
  return part_of<__m256>(v, half);
}
inline __m512 maskz_loadu_ps(__mmask16 mask, const float* p) {
  float lanes[16] = {};
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) lanes[i] = p[i];
  return part_of<__m512>(lanes, 0);
}
inline void mask_storeu_ps(float* p, __mmask16 mask, __m512 v) {
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) p[i] = part_of<float>(v, i);
}
/// Two quarters of a and two of b, chosen by two bits each.
inline __m512 shuffle_f32x4(__m512 a, __m512 b, int select) {
  const auto quarter = [select](const __m512& v, int at) { return part_of<__m128>(v, select >> 2 * at & 3); };
  const __m128 quarters[4] = {quarter(a, 0), quarter(a, 1), quarter(b, 2), quarter(b, 3)};
  return part_of<__m512>(quarters, 0);
}

}  // namespace
}  // namespace packmule::emulation

#define _mm512_cvtepi32_ps(v) packmule::emulation::cvtepi32_ps(v)
#define _mm512_cvtepi8_epi32(v) packmule::emulation::cvtepi8_epi32(v)
#define _mm512_cvtepu8_epi32(v) packmule::emulation::cvtepu8_epi32(v)
#define _mm512_srai_epi32(v, count) packmule::emulation::srai_epi32(v, count)
#define _mm512_cvtepi32_epi16(v) packmule::emulation::cvtepi32_epi16(v)
#define _mm512_cvtepu16_epi32(v) packmule::emulation::cvtepu16_epi32(v)
#define _mm512_cvtph_ps(v) packmule::emulation::cvtph_ps(v)
#define _mm512_extractf32x8_ps(v, half) packmule::emulation::extractf32x8_ps(v, half)
#define _mm512_maskz_loadu_ps(mask, p) packmule::emulation::maskz_loadu_ps(mask, p)
#define _mm512_mask_storeu_ps(p, mask, v) packmule::emulation::mask_storeu_ps(p, mask, v)
#define _mm512_shuffle_f32x4(a, b, select) packmule::emulation::shuffle_f32x4(a, b, select)
