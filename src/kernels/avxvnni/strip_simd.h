// What the strip matmuls need of AVX-VNNI beyond AVX2: dot products of bytes summed in 32 bits at once. The
// sums are the same integers, so the bits are AVX2's.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include "kernels/avx2/strip_simd.h"

namespace packmule::kernels {
namespace {

struct VnniStripSimd : StripSimd {
  /// Signed bytes count as unsigned ones that are this too large.
  static constexpr int kSignedBias = 128;

  /// Eight sums of four products of unsigned bytes a and signed bytes b.
  static __m256i dot_bytes(__m256i a, __m256i b) {
    return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), a, b);
  }

  /// Codes as Dot wants them: signed ones made unsigned by kSignedBias.
  template <int kBits>
  static Ints multiplicand(Ints codes) {
    return kBits == 8 ? row_panel_codes(codes) : codes;
  }
  template <int kBits, int>
  static Ints panel_codes(Ints codes) {
    return multiplicand<kBits>(codes);
  }
  static __m256i row_panel_codes(__m256i signed_codes) {
    return _mm256_xor_si256(signed_codes, _mm256_set1_epi8(static_cast<char>(0x80)));
  }

  /// Sums of products of codes and activations, lane by lane.
  template <int kBits>
  struct Dot {
    void start(Ints bias) { sum = bias; }
    /// Four codes a lane with the four activations at x.
    template <int>
    void add(Ints codes, const int8_t* x) {
      int32_t four;
      __builtin_memcpy(&four, x, sizeof four);
      sum = _mm256_dpbusd_avx_epi32(sum, codes, _mm256_set1_epi32(four));
    }
    template <int>
    [[nodiscard]] Ints total() const {
      return sum;
    }
    Ints sum;
  };
};

}  // namespace
}  // namespace packmule::kernels
