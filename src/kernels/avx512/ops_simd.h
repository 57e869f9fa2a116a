// What the ops need of AVX-512 beyond simd.h.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include "kernels/avx512/simd.h"

namespace packmule::kernels {
namespace {

struct OpsSimd : Simd {
  static Floats round_to_integer(Floats v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  /// v * 2^n, rounded once.
  static Floats scale_by_power(Floats v, Floats n) { return _mm512_scalef_ps(v, n); }
  static bool any_above(Floats v, Floats limit) { return _mm512_cmp_ps_mask(v, limit, _CMP_GT_OQ) != 0; }
  /// The columns of a [kWidth, 4] matrix.
  static void load_4_columns(const float* p, Floats* columns) {
    // Rows (r, r + 4, r + 8, r + 12) side by side, so that the shuffles after it, which stay within 128 bits,
    // end in order.
    const Floats a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + 16);
    const Floats c = _mm512_loadu_ps(p + 32), d = _mm512_loadu_ps(p + 48);
    const Floats even_ab = _mm512_shuffle_f32x4(a, b, 0x88), odd_ab = _mm512_shuffle_f32x4(a, b, 0xdd);
    const Floats even_cd = _mm512_shuffle_f32x4(c, d, 0x88), odd_cd = _mm512_shuffle_f32x4(c, d, 0xdd);
    const Floats rows_0 = _mm512_shuffle_f32x4(even_ab, even_cd, 0x88);
    const Floats rows_1 = _mm512_shuffle_f32x4(odd_ab, odd_cd, 0x88);
    const Floats rows_2 = _mm512_shuffle_f32x4(even_ab, even_cd, 0xdd);
    const Floats rows_3 = _mm512_shuffle_f32x4(odd_ab, odd_cd, 0xdd);
    const Floats low_01 = _mm512_unpacklo_ps(rows_0, rows_1), low_23 = _mm512_unpacklo_ps(rows_2, rows_3);
    const Floats high_01 = _mm512_unpackhi_ps(rows_0, rows_1), high_23 = _mm512_unpackhi_ps(rows_2, rows_3);
    columns[0] = _mm512_shuffle_ps(low_01, low_23, 0x44);
    columns[1] = _mm512_shuffle_ps(low_01, low_23, 0xee);
    columns[2] = _mm512_shuffle_ps(high_01, high_23, 0x44);
    columns[3] = _mm512_shuffle_ps(high_01, high_23, 0xee);
  }
};

}  // namespace
}  // namespace packmule::kernels
