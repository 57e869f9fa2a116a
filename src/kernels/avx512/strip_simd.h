// What the strip matmuls need of AVX-512 beyond simd.h: vectors of sixteen dwords, and dot products by VNNI.
//
// Included only by this folder's .cpp files; everything is of internal linkage (see check_isa_symbols.sh).
#pragma once

#include "kernels/avx512/simd.h"

namespace packmule::kernels {
namespace {

struct StripSimd : Simd {
  using Ints = __m512i;
  /// A tile is two strips by six tokens: twelve sums of products and twelve of floats in 32 registers.
  static constexpr int kTileStrips = 2;
  static constexpr int kTileTokens = 6;
  /// Up to so many tokens codes are unpacked in registers instead of into a panel.
  static constexpr int kDirectTokens = 8;
  /// Signed bytes count as unsigned ones that are this too large.
  static constexpr int kSignedBias = 128;
  /// Panels are multiplied by Dot, not by a tile unit.
  static constexpr bool kTiles = false;

  static Ints load_ints(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store_ints(uint8_t* p, Ints v) { _mm512_storeu_si512(p, v); }
  /// Sixteen bytes, each to a dword.
  static Ints load_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Ints no_ints() { return _mm512_setzero_si512(); }
  static Ints broadcast(int32_t value) { return _mm512_set1_epi32(value); }
  static Ints and_(Ints a, Ints b) { return _mm512_and_si512(a, b); }
  static Ints or_(Ints a, Ints b) { return _mm512_or_si512(a, b); }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  using Simd::add, Simd::sub;
  /// Dwords moved left, or right where kLeft is negative.
  template <int kLeft>
  static Ints shift(Ints v) {
    if constexpr (kLeft > 0) return _mm512_slli_epi32(v, kLeft);
    if constexpr (kLeft < 0) return _mm512_srli_epi32(v, -kLeft);
    return v;
  }
  static Ints shift_left_by(Ints v, Ints counts) { return _mm512_sllv_epi32(v, counts); }
  /// (byte >> kShift) & mask for every byte; mask must not reach past 8 - kShift bits.
  template <int kShift>
  static Ints bits(Ints v, int mask) {
    return and_(shift<-kShift>(v), _mm512_set1_epi8(static_cast<char>(mask)));
  }
  /// Byte k of every dword, zero- or sign-extended.
  static Ints byte(Ints v, int k) { return and_(_mm512_srli_epi32(v, 8 * k), broadcast(255)); }
  static Ints signed_byte(Ints v, int k) { return _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * k), 24); }
  /// Byte k of every dword in all of its four bytes.
  static Ints spread_byte(Ints v, int k) {
    return _mm512_shuffle_epi8(v, _mm512_add_epi8(_mm512_set1_epi8(static_cast<char>(k)), dword_starts()));
  }
  /// 0xff in bytes where all bits of mask are set.
  static Ints where_all_set(Ints v, Ints mask) {
    return _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(and_(v, mask), mask));
  }
  static Ints look_up(const int8_t* table, Ints codes) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), codes);
  }
  /// Low sixteen bits of products of words.
  static Ints mul_words(Ints a, Ints b) { return _mm512_mullo_epi16(a, b); }
  /// a < b ? yes : no, signed dwords; and for equality.
  static Ints select_less(Ints a, Ints b, Ints yes, Ints no) {
    return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(b, a), no, yes);
  }
  static Ints select_equal(Ints a, Ints b, Ints yes, Ints no) {
    return _mm512_mask_blend_epi32(_mm512_cmpeq_epi32_mask(a, b), no, yes);
  }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static Floats as_floats(Ints v) { return _mm512_castsi512_ps(v); }
  static Ints as_ints(Floats v) { return _mm512_castps_si512(v); }
  static Floats minus(Floats v) {
    return as_floats(_mm512_xor_si512(as_ints(v), broadcast(static_cast<int32_t>(0x80000000u))));
  }
  /// The lower (upper) sixteen bits of every dword as a half.
  static Floats from_low_half(Ints v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
  static Floats from_high_half(Ints v) { return from_low_half(_mm512_srli_epi32(v, 16)); }

  /// Codes as Dot wants them: signed ones made unsigned by kSignedBias.
  template <int kBits>
  static Ints multiplicand(Ints codes) {
    if constexpr (kBits != 8) return codes;
    return _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  /// Codes as panels hold them, of strips and of rows: ready for Dot.
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
      sum = _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four));
    }
    template <int>
    [[nodiscard]] Ints total() const {
      return sum;
    }
    Ints sum;
  };

  /// out[j][4 * r ...] = dword j (0 to 3) of the bytes at rows[r] + offset, for 16 rows.
  static void interleave_4_dwords(const uint8_t* const* rows, int64_t offset, uint8_t* const (&out)[4]) {
    __m512i four[4];  // rows i, i + 4, i + 8 and i + 12
    for (int i = 0; i < 4; ++i) {
      const auto part = [&](int row) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + offset));
      };
      const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i)), part(i + 4), 1);
      const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i + 8)), part(i + 12), 1);
      four[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    const __m512i low_01 = _mm512_unpacklo_epi32(four[0], four[1]),
                  low_23 = _mm512_unpacklo_epi32(four[2], four[3]);
    const __m512i high_01 = _mm512_unpackhi_epi32(four[0], four[1]),
                  high_23 = _mm512_unpackhi_epi32(four[2], four[3]);
    store_ints(out[0], _mm512_unpacklo_epi64(low_01, low_23));
    store_ints(out[1], _mm512_unpackhi_epi64(low_01, low_23));
    store_ints(out[2], _mm512_unpacklo_epi64(high_01, high_23));
    store_ints(out[3], _mm512_unpackhi_epi64(high_01, high_23));
  }

 private:
  static Ints dword_starts() {
    return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
  }
};

}  // namespace
}  // namespace packmule::kernels
