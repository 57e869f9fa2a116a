// The vector primitives of AVX-512 (F, BW, DQ, VL, VNNI), for the templates of kernels/common.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace packmule::kernels {
namespace {

struct Simd {
  using Floats = __m512;
  static constexpr int kWidth = 16;
  /// Accumulators a matmul tile may keep in registers beside its operands (32 registers in all).
  static constexpr int kTileAccumulators = 24;

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats set(float value) { return _mm512_set1_ps(value); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  /// The first n (0 to kWidth) floats, zeros behind; memory past them is not touched.
  static Floats load_first(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_mask(n), p); }
  static void store_first(float* p, int64_t n, Floats v) { _mm512_mask_storeu_ps(p, first_mask(n), v); }

  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static Floats sqrt(Floats a) { return _mm512_sqrt_ps(a); }
  /// a * b + c, rounded once.
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  /// c - a * b, rounded once.
  static Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }

  static Floats from_half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats from_bf16(const uint16_t* p) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }
  /// Signed bytes to floats, 32 / kWidth vectors.
  static void from_int8(__m256i bytes, Floats* out) {
    out[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
    out[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
  }
  /// The same times kCodeScale, for the instruction sets that save work by another scale.
  static constexpr float kCodeScale = 1.0f;
  static void from_int8_scaled(__m256i bytes, Floats* out) { from_int8(bytes, out); }
  /// Eight sums of four products of unsigned bytes a and signed bytes b.
  static __m256i dot_bytes(__m256i a, __m256i b) { return _mm256_dpbusd_epi32(_mm256_setzero_si256(), a, b); }
  /// Halves of the vector added to each other until eight lanes are left.
  static __m256 fold_to_8(Floats v) {
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  }

 private:
  static __mmask16 first_mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
};

}  // namespace
}  // namespace packmule::kernels
