// What the strip matmuls need of AVX2 beyond simd.h: vectors of eight dwords, half a strip, and dot products
// by sums in 16 bits.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include "kernels/avx2/simd.h"

namespace packmule::kernels {
namespace {

struct StripSimd : Simd {
  using Ints = __m256i;
  /// A tile is one strip, half by half, by four tokens: four sums of products and four of floats in 16
  /// registers.
  static constexpr int kTileStrips = 1;
  static constexpr int kTileTokens = 4;
  /// Up to so many tokens codes are unpacked in registers instead of into a panel.
  static constexpr int kDirectTokens = 4;
  /// Signed bytes are multiplied as they are.
  static constexpr int kSignedBias = 0;
  /// Panels are multiplied by Dot, not by a tile unit.
  static constexpr bool kTiles = false;

  static Ints load_ints(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store_ints(uint8_t* p, Ints v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  /// Eight bytes, each to a dword.
  static Ints load_bytes(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static Ints no_ints() { return _mm256_setzero_si256(); }
  static Ints broadcast(int32_t value) { return _mm256_set1_epi32(value); }
  static Ints and_(Ints a, Ints b) { return _mm256_and_si256(a, b); }
  static Ints or_(Ints a, Ints b) { return _mm256_or_si256(a, b); }
  static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints sub(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  using Simd::add, Simd::sub;
  /// Dwords moved left, or right where kLeft is negative.
  template <int kLeft>
  static Ints shift(Ints v) {
    if constexpr (kLeft > 0) return _mm256_slli_epi32(v, kLeft);
    if constexpr (kLeft < 0) return _mm256_srli_epi32(v, -kLeft);
    return v;
  }
  static Ints shift_left_by(Ints v, Ints counts) { return _mm256_sllv_epi32(v, counts); }
  /// (byte >> kShift) & mask for every byte; mask must not reach past 8 - kShift bits.
  template <int kShift>
  static Ints bits(Ints v, int mask) {
    return and_(shift<-kShift>(v), _mm256_set1_epi8(static_cast<char>(mask)));
  }
  /// Byte k of every dword, zero- or sign-extended.
  static Ints byte(Ints v, int k) { return and_(_mm256_srli_epi32(v, 8 * k), broadcast(255)); }
  static Ints signed_byte(Ints v, int k) { return _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * k), 24); }
  /// Byte k of every dword in all of its four bytes.
  static Ints spread_byte(Ints v, int k) {
    const __m128i starts = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    return _mm256_shuffle_epi8(
        v, _mm256_add_epi8(_mm256_set1_epi8(static_cast<char>(k)), _mm256_broadcastsi128_si256(starts)));
  }
  /// 0xff in bytes where all bits of mask are set.
  static Ints where_all_set(Ints v, Ints mask) { return _mm256_cmpeq_epi8(and_(v, mask), mask); }
  static Ints look_up(const int8_t* table, Ints codes) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
  }
  /// Low sixteen bits of products of words.
  static Ints mul_words(Ints a, Ints b) { return _mm256_mullo_epi16(a, b); }
  /// a < b ? yes : no, signed dwords; and for equality.
  static Ints select_less(Ints a, Ints b, Ints yes, Ints no) {
    return _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi32(b, a));
  }
  static Ints select_equal(Ints a, Ints b, Ints yes, Ints no) {
    return _mm256_blendv_epi8(no, yes, _mm256_cmpeq_epi32(a, b));
  }
  static Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
  static Floats as_floats(Ints v) { return _mm256_castsi256_ps(v); }
  static Ints as_ints(Floats v) { return _mm256_castps_si256(v); }
  static Floats minus(Floats v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }
  /// The lower (upper) sixteen bits of every dword as a half.
  static Floats from_low_half(Ints v) { return from_halves(v, 0); }
  static Floats from_high_half(Ints v) { return from_halves(v, 2); }

  /// Codes as Dot wants them: as they are.
  template <int>
  static Ints multiplicand(Ints codes) {
    return codes;
  }
  /// Codes as panels hold them, of strips and of rows: ready for Dot.
  template <int kBits, int>
  static Ints panel_codes(Ints codes) {
    return multiplicand<kBits>(codes);
  }
  static __m256i row_panel_codes(__m256i signed_codes) { return signed_codes; }

  /// Sums of products of codes and activations, lane by lane.
  ///
  /// Two neighbouring products at a time come out in 16 bits; as many of them are added there as cannot
  /// overflow.
  template <int kBits>
  struct Dot {
    static constexpr int kPerSum = kBits == 4 ? 8 : kBits == 5 ? 4 : kBits == 6 ? 2 : 1;
    static_assert(kBits == 8 || kPerSum * 2 * ((1 << kBits) - 1) * 127 <= 32767);
    void start(Ints bias) { sum = bias; }
    /// Four codes a lane with the four activations at x: the kNth time since start().
    template <int kNth>
    void add(Ints codes, const int8_t* x) {
      int32_t four;
      __builtin_memcpy(&four, x, sizeof four);
      const Ints activations = _mm256_set1_epi32(four);
      // The instruction wants one unsigned factor: the sign of a signed code goes to the activation.
      const Ints pairs =
          kBits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(activations, codes))
                     : _mm256_maddubs_epi16(codes, activations);
      words = kNth % kPerSum == 0 ? pairs : _mm256_add_epi16(words, pairs);
      if constexpr (kNth % kPerSum == kPerSum - 1) flush();
    }
    /// After kTimes calls of add.
    template <int kTimes>
    [[nodiscard]] Ints total() {
      if constexpr (kTimes % kPerSum != 0) flush();
      return sum;
    }
    void flush() { sum = _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_set1_epi16(1))); }
    Ints words;
    Ints sum;
  };

  /// out[j][4 * r ...] = dword j (0 to 3) of the bytes at rows[r] + offset, for 16 rows.
  static void interleave_4_dwords(const uint8_t* const* rows, int64_t offset, uint8_t* const (&out)[4]) {
    for (int half = 0; half < 2; ++half, rows += 8) {
      __m256i two[4];  // rows i and i + 4
      for (int i = 0; i < 4; ++i) {
        const auto part = [&](int row) {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + offset));
        };
        two[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i)), part(i + 4), 1);
      }
      const __m256i low_01 = _mm256_unpacklo_epi32(two[0], two[1]),
                    low_23 = _mm256_unpacklo_epi32(two[2], two[3]);
      const __m256i high_01 = _mm256_unpackhi_epi32(two[0], two[1]),
                    high_23 = _mm256_unpackhi_epi32(two[2], two[3]);
      store_ints(out[0] + 32 * half, _mm256_unpacklo_epi64(low_01, low_23));
      store_ints(out[1] + 32 * half, _mm256_unpackhi_epi64(low_01, low_23));
      store_ints(out[2] + 32 * half, _mm256_unpacklo_epi64(high_01, high_23));
      store_ints(out[3] + 32 * half, _mm256_unpackhi_epi64(high_01, high_23));
    }
  }

 private:
  /// The half that begins at a byte of each dword.
  static Floats from_halves(Ints v, char first) {
    const char a = first, b = static_cast<char>(first + 1);
    const __m128i select =
        _mm_setr_epi8(a, b, static_cast<char>(a + 4), static_cast<char>(b + 4), static_cast<char>(a + 8),
                      static_cast<char>(b + 8), static_cast<char>(a + 12), static_cast<char>(b + 12), -1, -1,
                      -1, -1, -1, -1, -1, -1);
    const __m256i halves = _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(select));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08)));
  }
};

}  // namespace
}  // namespace packmule::kernels
