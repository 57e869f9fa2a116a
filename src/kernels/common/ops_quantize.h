// Rounding activations to bytes; the same for all instruction sets that have AVX2.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

inline void quantize(const float* x, int64_t n, QuantizedGroup* out) {
  const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (int64_t begin = 0; begin < n; begin += kQuantizedGroup, ++out) {
    __m256 v[4];
    for (int i = 0; i < 4; ++i) v[i] = _mm256_loadu_ps(x + begin + 8 * i);
    const __m256 most =
        _mm256_max_ps(_mm256_max_ps(_mm256_and_ps(v[0], no_sign), _mm256_and_ps(v[1], no_sign)),
                      _mm256_max_ps(_mm256_and_ps(v[2], no_sign), _mm256_and_ps(v[3], no_sign)));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    const float largest = _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    const float scale = largest / 127.0f;
    const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    __m256i code[4];
    for (int i = 0; i < 4; ++i) code[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    // Packing works on 128-bit halves: the bytes come out as fours of the first, third ... vector.
    const __m256i words[2] = {_mm256_packs_epi32(code[0], code[1]), _mm256_packs_epi32(code[2], code[3])};
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words[0], words[1]), order);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out->codes), bytes);
    int sums[2];
    for (int half = 0; half < 2; ++half) {
      const __m256i eight = _mm256_add_epi32(code[2 * half], code[2 * half + 1]);
      const __m128i sum4 = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
      const __m128i sum2 = _mm_add_epi32(sum4, _mm_shuffle_epi32(sum4, 0x4e));
      sums[half] = _mm_cvtsi128_si32(_mm_add_epi32(sum2, _mm_shuffle_epi32(sum2, 0xb1)));
      out->half_sum[half] = scale * static_cast<float>(sums[half]);
      out->minus_half_sum[half] = -sums[half];
    }
    out->scale = scale;
    out->sum = scale * static_cast<float>(sums[0] + sums[1]);
    out->minus_sum = -(sums[0] + sums[1]);
    out->unused = 0;
  }
}

}  // namespace
}  // namespace packmule::kernels
