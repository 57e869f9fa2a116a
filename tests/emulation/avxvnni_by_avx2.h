// AVX-VNNI for processors that have none. The `emulated` preset puts this header before every file of
// src/kernels/avxvnni.
#pragma once

#include <immintrin.h>

namespace packmule::emulation {
namespace {

/// sum + the sums of four products of unsigned bytes a and signed bytes b, a dword each.
inline __m256i dpbusd(__m256i sum, __m256i a, __m256i b) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

}  // namespace
}  // namespace packmule::emulation

#define _mm256_dpbusd_avx_epi32(sum, a, b) packmule::emulation::dpbusd(sum, a, b)
