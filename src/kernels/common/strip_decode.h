// Decoders of strips (strip_layout.h): codes and scales of a block of as many rows as a vector has lanes.
//
// A decoder D<S> looks at one block of a strip. It has
//   kGroups   groups of 32 columns in the block
//   kScales   scales a group: 1, or 2 (one for 16 columns)
//   kBits     bits of a code: 4, 5 or 6 mean unsigned codes below 2^kBits, 8 signed bytes
//   kBias     what is taken from an unsigned code; 0 or a power of two
//   kOffset   whether weight = scale * (code - kBias) + offset, else the offset is 0
//   codes<g>(i)     codes of columns 4i .. 4i+3 of group g, a row to a dword
//   scale<g>(half)  and offset<g>(half): of that half of group g (0 when kScales is 1), a row to a lane
// Numbers are rounded as in the format's scalar decoder (quant/<format>.cpp), which draws the bits.
#pragma once

#include "kernels/strip_layout.h"
#include "quant/codebooks.h"
#include "quant/format.h"

namespace packmule::kernels {
namespace {

/// Where a block lies: place i of its rows at dwords + 64 * i.
struct StripBlock {
  const uint8_t* dwords;
  const uint8_t* odds;
};

/// What every decoder is made of; those with offsets hide the last two members.
template <class S, quant::Type kTypeOf>
struct StripReader {
  static constexpr quant::Type kType = kTypeOf;
  static constexpr StripLayout kLayout = strip_layout(kType);
  explicit StripReader(StripBlock b) : block(b) {}
  /// Dword i of the block in the file.
  [[gnu::always_inline]] typename S::Ints dword(int i) const {
    return S::load_ints(block.dwords + 64 * strip_place(kType, i));
  }
  /// The odd unit as a half.
  typename S::Floats odd_half() const { return S::from_half(reinterpret_cast<const uint16_t*>(block.odds)); }
  StripBlock block;

  static constexpr bool kOffset = false;
  template <int>
  typename S::Floats offset(int) const {
    return S::zero();
  }
};

/// One scale for 32 columns, a half in the odd unit.
template <class S, quant::Type kTypeOf>
struct StripHalfScale : StripReader<S, kTypeOf> {
  using StripReader<S, kTypeOf>::StripReader;
  static constexpr int kGroups = 1, kScales = 1;
  template <int>
  typename S::Floats scale(int) const {
    return this->odd_half();
  }
};

/// Scale and offset as two halves of dword 0.
template <class S, quant::Type kTypeOf>
struct StripHalfPair : StripHalfScale<S, kTypeOf> {
  using StripHalfScale<S, kTypeOf>::StripHalfScale;
  static constexpr bool kOffset = true;
  template <int>
  typename S::Floats scale(int) const {
    return S::from_low_half(this->dword(0));
  }
  template <int>
  typename S::Floats offset(int) const {
    return S::from_high_half(this->dword(0));
  }
};

/// Nibbles of 16 bytes from dword `first_dword` on: the low ones are columns 0 to 15, the high ones the rest.
template <class S>
[[gnu::always_inline]] inline typename S::Ints split_nibbles(const uint8_t* dwords, int first_dword, int i) {
  const typename S::Ints bytes = S::load_ints(dwords + 64 * (first_dword + i % 4));
  return i < 4 ? S::template bits<0>(bytes, 15) : S::template bits<4>(bytes, 15);
}

template <class S>
struct StripQ4_0 : StripHalfScale<S, quant::Type::kQ4_0> {
  using StripHalfScale<S, quant::Type::kQ4_0>::StripHalfScale;
  static constexpr int kBits = 4, kBias = 8;
  template <int>
  typename S::Ints codes(int i) const {
    return split_nibbles<S>(this->block.dwords, 0, i);
  }
};

template <class S>
struct StripQ4_1 : StripHalfPair<S, quant::Type::kQ4_1> {
  using StripHalfPair<S, quant::Type::kQ4_1>::StripHalfPair;
  static constexpr int kBits = 4, kBias = 0;
  template <int>
  typename S::Ints codes(int i) const {
    return split_nibbles<S>(this->block.dwords, 1, i);
  }
};

/// The fifth bits of columns 4i .. 4i+3, bits 4i .. 4i+3 of each row's dword, at bit 4 of a byte each.
template <class S>
[[gnu::always_inline]] inline typename S::Ints fifth_bits(typename S::Ints high, int i) {
  const typename S::Ints byte = S::spread_byte(high, i / 2);
  const auto own_bits = static_cast<int32_t>(i % 2 == 0 ? 0x08040201u : 0x80402010u);
  return S::and_(S::where_all_set(byte, S::broadcast(own_bits)), S::broadcast(0x10101010));
}

template <class S>
struct StripQ5_0 : StripHalfScale<S, quant::Type::kQ5_0> {
  using StripHalfScale<S, quant::Type::kQ5_0>::StripHalfScale;
  static constexpr int kBits = 5, kBias = 16;
  template <int>
  typename S::Ints codes(int i) const {
    return S::or_(split_nibbles<S>(this->block.dwords, 1, i), fifth_bits<S>(this->dword(0), i));
  }
};

template <class S>
struct StripQ5_1 : StripHalfPair<S, quant::Type::kQ5_1> {
  using StripHalfPair<S, quant::Type::kQ5_1>::StripHalfPair;
  static constexpr int kBits = 5, kBias = 0;
  template <int>
  typename S::Ints codes(int i) const {
    return S::or_(split_nibbles<S>(this->block.dwords, 2, i), fifth_bits<S>(this->dword(1), i));
  }
};

template <class S>
struct StripQ8_0 : StripHalfScale<S, quant::Type::kQ8_0> {
  using StripHalfScale<S, quant::Type::kQ8_0>::StripHalfScale;
  static constexpr int kBits = 8, kBias = 0;
  template <int>
  typename S::Ints codes(int i) const {
    return this->dword(i);
  }
};

template <class S>
struct StripIQ4_NL : StripHalfScale<S, quant::Type::kIQ4_NL> {
  using StripHalfScale<S, quant::Type::kIQ4_NL>::StripHalfScale;
  static constexpr int kBits = 8, kBias = 0;
  template <int>
  typename S::Ints codes(int i) const {
    return S::look_up(quant::kIq4Values.at, split_nibbles<S>(this->block.dwords, 0, i));
  }
};

/// The doubled FP4 values and 16, so that they are not negative.
constexpr quant::Codebook<int8_t, 16> fp4_values_plus_16() {
  quant::Codebook<int8_t, 16> plus = quant::kFp4DoubledValues;
  for (int8_t& value : plus.at) value = static_cast<int8_t>(value + 16);
  return plus;
}
constexpr quant::Codebook<int8_t, 16> kFp4ValuesPlus16 = fp4_values_plus_16();

template <class S>
struct StripMXFP4 : StripHalfScale<S, quant::Type::kMXFP4> {
  using StripHalfScale<S, quant::Type::kMXFP4>::StripHalfScale;
  static constexpr int kBits = 5, kBias = 16;
  template <int>
  typename S::Ints codes(int i) const {
    return S::look_up(kFp4ValuesPlus16.at, split_nibbles<S>(this->block.dwords, 0, i));
  }
  /// 2^(exponent - 128), the two smallest being denormals (quant/mxfp4.h).
  template <int>
  typename S::Floats scale(int) const {
    const typename S::Ints exponent = S::load_bytes(this->block.odds);
    const typename S::Ints normal = S::template shift<23>(S::sub(exponent, S::broadcast(1)));
    const typename S::Ints denormal = S::shift_left_by(S::broadcast(0x200000), exponent);
    return S::as_floats(S::select_less(exponent, S::broadcast(2), denormal, normal));
  }
};

template <class S>
struct StripNVFP4 : StripHalfScale<S, quant::Type::kNVFP4> {
  using StripHalfScale<S, quant::Type::kNVFP4>::StripHalfScale;
  static constexpr int kGroups = 2, kScales = 2;
  static constexpr int kBits = 5, kBias = 16;
  template <int kGroup>
  typename S::Ints codes(int i) const {
    const typename S::Ints bytes = this->dword(1 + 2 * (2 * kGroup + i / 4) + i % 2);
    return S::look_up(kFp4ValuesPlus16.at,
                      i % 4 < 2 ? S::template bits<0>(bytes, 15) : S::template bits<4>(bytes, 15));
  }
  /// Half of an unsigned E4M3 (quant/nvfp4.h): 127 stands for 0, exponent 0 for denormals.
  template <int kGroup>
  typename S::Floats scale(int half) const {
    const typename S::Ints code = S::byte(this->dword(0), 2 * kGroup + half);
    const typename S::Ints low = S::and_(code, S::broadcast(127));
    const typename S::Ints normal = S::template shift<20>(S::add(low, S::broadcast(119 << 3)));
    const typename S::Ints denormal = S::as_ints(S::mul(S::to_floats(low), S::set(0x1p-10f)));
    const typename S::Ints number = S::select_less(low, S::broadcast(8), denormal, normal);
    return S::as_floats(S::select_equal(code, S::broadcast(127), S::broadcast(0), number));
  }
};

template <class S>
struct StripQ2_K : StripReader<S, quant::Type::kQ2_K> {
  using Reader = StripReader<S, quant::Type::kQ2_K>;
  using Reader::dword;
  static constexpr int kGroups = 8, kScales = 2, kBits = 4, kBias = 0;
  static constexpr bool kOffset = true;
  explicit StripQ2_K(StripBlock b)
      : Reader(b), d(S::from_low_half(dword(20))), minus_dmin(S::minus(S::from_high_half(dword(20)))) {}
  template <int kGroup>
  typename S::Ints codes(int i) const {
    return S::template bits<2 * (kGroup % 4)>(dword(4 + 8 * (kGroup / 4) + i), 3);
  }
  template <int kGroup>
  typename S::Floats scale(int half) const {
    return S::mul(d, S::to_floats(S::and_(scale_byte<kGroup>(half), S::broadcast(15))));
  }
  template <int kGroup>
  typename S::Floats offset(int half) const {
    return S::mul(minus_dmin, S::to_floats(S::template shift<-4>(scale_byte<kGroup>(half))));
  }
  template <int kGroup>
  typename S::Ints scale_byte(int half) const {
    return S::byte(dword(kGroup / 2), 2 * (kGroup % 2) + half);
  }
  typename S::Floats d, minus_dmin;
};

template <class S>
struct StripQ3_K : StripReader<S, quant::Type::kQ3_K> {
  using Reader = StripReader<S, quant::Type::kQ3_K>;
  using Reader::dword;
  static constexpr int kGroups = 8, kScales = 2, kBits = 4, kBias = 4;
  explicit StripQ3_K(StripBlock b) : Reader(b), d(this->odd_half()) {}
  template <int kGroup>
  typename S::Ints codes(int i) const {
    // The third bit is stored inverted: set where the code is not lowered by 4, which is the bias.
    const typename S::Ints low = S::template bits<2 * (kGroup % 4)>(dword(8 + 8 * (kGroup / 4) + i), 3);
    const typename S::Ints third = S::template shift<2 - kGroup>(dword(i));
    return S::or_(low, S::and_(third, S::broadcast(0x04040404)));
  }
  template <int kGroup>
  typename S::Floats scale(int half) const {
    // The k-th of 16: a nibble of byte k % 8, and two bits from 2 * (k / 4) on of byte 8 + k % 4.
    const int byte = 2 * (kGroup % 2) + half;
    const typename S::Ints nibbles = S::byte(dword(24 + kGroup / 2 % 2), byte);
    const typename S::Ints low = S::and_(S::template shift<-4 * (kGroup / 4)>(nibbles), S::broadcast(15));
    const typename S::Ints upper = S::template shift<4 - 2 * (kGroup / 2)>(S::byte(dword(26), byte));
    const typename S::Ints stored = S::or_(low, S::and_(upper, S::broadcast(0x30)));
    return S::mul(d, S::to_floats(S::sub(stored, S::broadcast(32))));
  }
  typename S::Floats d;
};

/// What Q4_K and Q5_K share: dword 0 holds d and dmin, dwords 1 to 3 the packed scales (quant/k_scales.h).
template <class S, quant::Type kTypeOf>
struct StripKScales : StripReader<S, kTypeOf> {
  using Reader = StripReader<S, kTypeOf>;
  using Reader::dword;
  static constexpr int kGroups = 8, kScales = 1, kBias = 0;
  static constexpr bool kOffset = true;
  explicit StripKScales(StripBlock b)
      : Reader(b), d(S::from_low_half(dword(0))), minus_dmin(S::minus(S::from_high_half(dword(0)))) {
    using Ints = typename S::Ints;
    const Ints first = dword(1), second = dword(2), third = dword(3);
    const Ints low = S::broadcast(0x0f0f0f0f), upper = S::broadcast(0x30303030);
    scales[0] = S::and_(first, S::broadcast(0x3f3f3f3f));
    minima[0] = S::and_(second, S::broadcast(0x3f3f3f3f));
    scales[1] = S::or_(S::and_(third, low), S::and_(S::template shift<-2>(first), upper));
    minima[1] =
        S::or_(S::and_(S::template shift<-4>(third), low), S::and_(S::template shift<-2>(second), upper));
  }
  template <int kGroup>
  typename S::Floats scale(int) const {
    return S::mul(d, S::to_floats(S::byte(scales[kGroup / 4], kGroup % 4)));
  }
  template <int kGroup>
  typename S::Floats offset(int) const {
    return S::mul(minus_dmin, S::to_floats(S::byte(minima[kGroup / 4], kGroup % 4)));
  }
  typename S::Floats d, minus_dmin;
  typename S::Ints scales[2], minima[2];
};

template <class S>
struct StripQ4_K : StripKScales<S, quant::Type::kQ4_K> {
  using StripKScales<S, quant::Type::kQ4_K>::StripKScales;
  static constexpr int kBits = 4;
  template <int kGroup>
  typename S::Ints codes(int i) const {
    return S::template bits<4 * (kGroup % 2)>(this->dword(4 + 8 * (kGroup / 2) + i), 15);
  }
};

template <class S>
struct StripQ5_K : StripKScales<S, quant::Type::kQ5_K> {
  using StripKScales<S, quant::Type::kQ5_K>::StripKScales;
  static constexpr int kBits = 5;
  template <int kGroup>
  typename S::Ints codes(int i) const {
    const typename S::Ints low =
        S::template bits<4 * (kGroup % 2)>(this->dword(12 + 8 * (kGroup / 2) + i), 15);
    // Bit g of each byte, moved to bit 4.
    const typename S::Ints high = S::template shift<4 - kGroup>(this->dword(4 + i));
    return S::or_(low, S::and_(high, S::broadcast(0x10101010)));
  }
};

template <class S>
struct StripQ6_K : StripReader<S, quant::Type::kQ6_K> {
  using Reader = StripReader<S, quant::Type::kQ6_K>;
  using Reader::dword;
  static constexpr int kGroups = 8, kScales = 2, kBits = 6, kBias = 32;
  explicit StripQ6_K(StripBlock b) : Reader(b), d(this->odd_half()) {}
  template <int kGroup>
  typename S::Ints codes(int i) const {
    constexpr int kHalf = kGroup / 4, kPart = kGroup % 4;
    const typename S::Ints low =
        S::template bits<4 * (kPart / 2)>(dword(16 * kHalf + 8 * (kPart % 2) + i), 15);
    // Two bits at 2 * kPart, moved to bits 4 and 5.
    const typename S::Ints high = S::template shift<4 - 2 * kPart>(dword(32 + 8 * kHalf + i));
    return S::or_(low, S::and_(high, S::broadcast(0x30303030)));
  }
  template <int kGroup>
  typename S::Floats scale(int half) const {
    return S::mul(d, S::to_floats(S::signed_byte(dword(48 + kGroup / 2), 2 * (kGroup % 2) + half)));
  }
  typename S::Floats d;
};

template <class S>
struct StripIQ4_XS : StripReader<S, quant::Type::kIQ4_XS> {
  using Reader = StripReader<S, quant::Type::kIQ4_XS>;
  using Reader::dword;
  static constexpr int kGroups = 8, kScales = 1, kBits = 8, kBias = 0;
  explicit StripIQ4_XS(StripBlock b) : Reader(b), d(S::from_low_half(dword(0))) {}
  template <int kGroup>
  typename S::Ints codes(int i) const {
    return S::look_up(quant::kIq4Values.at, split_nibbles<S>(this->block.dwords, 2 + 4 * kGroup, i));
  }
  template <int kGroup>
  typename S::Floats scale(int) const {
    using Ints = typename S::Ints;
    const Ints low = S::and_(S::template shift<-4 * kGroup>(dword(1)), S::broadcast(15));
    const Ints high = S::and_(S::template shift<-16 - 2 * kGroup>(dword(0)), S::broadcast(3));
    const Ints number = S::sub(S::or_(low, S::template shift<4>(high)), S::broadcast(32));
    return S::mul(d, S::to_floats(number));
  }
  typename S::Floats d;
};

/// One scale for 256 columns, a half in the odd unit: the ternary formats.
template <class S, quant::Type kTypeOf>
struct StripTernary : StripHalfScale<S, kTypeOf> {
  using StripHalfScale<S, kTypeOf>::StripHalfScale;
  static constexpr int kGroups = 8, kBits = 4, kBias = 1;
};

template <class S>
struct StripTQ2_0 : StripTernary<S, quant::Type::kTQ2_0> {
  using StripTernary<S, quant::Type::kTQ2_0>::StripTernary;
  template <int kGroup>
  typename S::Ints codes(int i) const {
    return S::template bits<2 * (kGroup % 4)>(this->dword(8 * (kGroup / 4) + i), 3);
  }
};

template <class S>
struct StripTQ1_0 : StripTernary<S, quant::Type::kTQ1_0> {
  using StripTernary<S, quant::Type::kTQ1_0>::StripTernary;
  /// Groups 0 to 4 are digit g of 32 bytes; 5, 6 and half of 7 two digits each of the next 16; the rest the
  /// tail.
  template <int kGroup>
  typename S::Ints codes(int i) const {
    if constexpr (kGroup < 5) {
      return digits(this->dword(i), kGroup);
    } else {
      const int digit = 2 * (kGroup - 5) + i / 4;
      return digit < 5 ? digits(this->dword(8 + i % 4), digit) : digits(this->dword(12), i % 4);
    }
  }

 private:
  /// (byte * 3^digit mod 256) * 3 / 256, even and odd bytes apart.
  [[gnu::always_inline]] static typename S::Ints digits(typename S::Ints bytes, int digit) {
    using Ints = typename S::Ints;
    constexpr int kPowers[5] = {1, 3, 9, 27, 81};
    const Ints power = S::broadcast(kPowers[digit] * 0x10001);
    const Ints three = S::broadcast(0x30003);
    const Ints low_byte = S::broadcast(0xff00ff);
    const Ints even = S::and_(S::mul_words(S::and_(bytes, low_byte), power), low_byte);
    const Ints odd = S::and_(S::mul_words(S::and_(S::template shift<-8>(bytes), low_byte), power), low_byte);
    const Ints even_digit = S::and_(S::template shift<-8>(S::mul_words(even, three)), low_byte);
    const Ints odd_digit = S::and_(S::mul_words(odd, three), S::template shift<8>(low_byte));
    return S::or_(even_digit, odd_digit);
  }
};

}  // namespace
}  // namespace packmule::kernels
