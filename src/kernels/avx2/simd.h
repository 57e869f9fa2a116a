// The vector primitives of AVX2 + FMA + F16C, for the templates of kernels/common.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace packmule::kernels {
namespace {

struct Simd {
  using Floats = __m256;
  static constexpr int kWidth = 8;
  /// Accumulators a matmul tile may keep in registers beside its operands (16 registers in all).
  static constexpr int kTileAccumulators = 12;

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats set(float value) { return _mm256_set1_ps(value); }
  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  /// The first n (0 to kWidth) floats, zeros behind; memory past them is not touched.
  static Floats load_first(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_mask(n)); }
  static void store_first(float* p, int64_t n, Floats v) { _mm256_maskstore_ps(p, first_mask(n), v); }

  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
  static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  static Floats sqrt(Floats a) { return _mm256_sqrt_ps(a); }
  /// a * b + c, rounded once.
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  /// c - a * b, rounded once.
  static Floats fnma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }

  static Floats from_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Floats from_bf16(const uint16_t* p) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  /// Signed bytes to floats times kCodeScale, 32 / kWidth vectors.
  ///
  /// Shuffles put each byte on top of a 32-bit lane, which as an integer is the byte times 2^24. That is half
  /// the shuffles of widening the bytes one by one, and these are what decoding runs out of first.
  static constexpr float kCodeScale = 0x1p24f;
  static void from_int8_scaled(__m256i bytes, Floats* out) {
    const __m256i dwords = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    out[0] = bytes_on_top<0>(dwords);
    out[1] = bytes_on_top<4>(dwords);
    out[2] = bytes_on_top<8>(dwords);
    out[3] = bytes_on_top<12>(dwords);
  }
  /// Signed bytes to floats, 32 / kWidth vectors.
  static void from_int8(__m256i bytes, Floats* out) {
    const __m128i low = _mm256_castsi256_si128(bytes);
    const __m128i high = _mm256_extracti128_si256(bytes, 1);
    out[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low));
    out[1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(low, low)));
    out[2] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high));
    out[3] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(high, high)));
  }
  /// Eight sums of four products of unsigned bytes a (at most 128) and signed bytes b (at least -127).
  static __m256i dot_bytes(__m256i a, __m256i b) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
  }
  /// Halves of the vector added to each other until eight lanes are left.
  static __m256 fold_to_8(Floats v) { return v; }

 private:
  template <char kFirst>
  static Floats bytes_on_top(__m256i dwords) {
    const __m128i select = _mm_setr_epi8(-1, -1, -1, kFirst, -1, -1, -1, kFirst + 1, -1, -1, -1, kFirst + 2,
                                         -1, -1, -1, kFirst + 3);
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(dwords, _mm256_broadcastsi128_si256(select)));
  }
  static __m256i first_mask(int64_t n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
  }
};

}  // namespace
}  // namespace packmule::kernels
