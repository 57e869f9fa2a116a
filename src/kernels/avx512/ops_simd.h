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
    const __m512i rows = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    for (int j = 0; j < 4; ++j) columns[j] = _mm512_i32gather_ps(rows, p + j, 4);
  }
};

}  // namespace
}  // namespace packmule::kernels
