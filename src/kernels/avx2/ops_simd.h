// What the ops need of AVX2 beyond simd.h.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include "kernels/avx2/simd.h"

namespace packmule::kernels {
namespace {

struct OpsSimd : Simd {
  static Floats round_to_integer(Floats v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  /// v * 2^n, rounded once; n whole and in [-200, 200]. By two factors, for 2^n itself may be no float.
  static Floats scale_by_power(Floats v, Floats n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(v, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
  }
  static bool any_above(Floats v, Floats limit) {
    return _mm256_movemask_ps(_mm256_cmp_ps(v, limit, _CMP_GT_OQ)) != 0;
  }
  /// The columns of a [kWidth, 4] matrix.
  static void load_4_columns(const float* p, Floats* columns) {
    // Row pairs (r, r + 4) side by side, so that the shuffles below, which stay within 128 bits, end in
    // order.
    const Floats rows_04 = _mm256_loadu2_m128(p + 16, p);
    const Floats rows_15 = _mm256_loadu2_m128(p + 20, p + 4);
    const Floats rows_26 = _mm256_loadu2_m128(p + 24, p + 8);
    const Floats rows_37 = _mm256_loadu2_m128(p + 28, p + 12);
    const Floats low_01 = _mm256_unpacklo_ps(rows_04, rows_15);
    const Floats low_23 = _mm256_unpacklo_ps(rows_26, rows_37);
    const Floats high_01 = _mm256_unpackhi_ps(rows_04, rows_15);
    const Floats high_23 = _mm256_unpackhi_ps(rows_26, rows_37);
    columns[0] = _mm256_shuffle_ps(low_01, low_23, 0x44);
    columns[1] = _mm256_shuffle_ps(low_01, low_23, 0xee);
    columns[2] = _mm256_shuffle_ps(high_01, high_23, 0x44);
    columns[3] = _mm256_shuffle_ps(high_01, high_23, 0xee);
  }

 private:
  static __m256 power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};

}  // namespace
}  // namespace packmule::kernels
