// The plain (round to nearest) rules for blocks of 32: those by which llama.cpp's KV cache writes Q4_0, Q4_1,
// Q5_0 and Q5_1. Fast, and the same bytes.
#pragma once

#include <cfloat>

#include "quant/encode_math.h"

namespace packmule::quant {

struct ScaledCodes {
  HalfBits d;
  HalfBits m;  // 0 for formats without a minimum
  uint8_t code[kSmallBlock];
};

/// Codes 0 .. 2 * kCentre - 1 for code - kCentre: the value of largest magnitude becomes code 0, so d has
/// the opposite sign of it. Codes are rounded with the scale before it became a float16.
template <int kCentre>
[[nodiscard]] ScaledCodes plain_centred_codes(const float* x) {
  const float d = extreme_of_block(x) / static_cast<float>(-kCentre);
  const float inverse = inverse_or_zero(d);
  ScaledCodes codes{.d = scale_to_half(d), .m = 0, .code = {}};
  for (int i = 0; i < kSmallBlock; ++i)
    codes.code[i] = truncate_to_code(x[i] * inverse + (static_cast<float>(kCentre) + 0.5f), 2 * kCentre - 1);
  return codes;
}

/// Codes 0 .. kLargest over the range of the values, m being the least of them.
template <int kLargest>
[[nodiscard]] ScaledCodes plain_ranged_codes(const float* x) {
  const Range range = range_of_block(x, {FLT_MAX, -FLT_MAX});
  const float d = (range.high - range.low) / static_cast<float>(kLargest);
  const float inverse = inverse_or_zero(d);
  ScaledCodes codes{.d = scale_to_half(d), .m = scale_to_half(range.low), .code = {}};
  for (int i = 0; i < kSmallBlock; ++i)
    codes.code[i] = truncate_to_code((x[i] - range.low) * inverse + 0.5f, kLargest);
  return codes;
}

/// The sixteen bytes of 32 four-bit codes: the low nibbles hold the first half.
inline void pack_nibbles(const uint8_t* code, uint8_t* q) {
  for (int i = 0; i < 16; ++i) q[i] = static_cast<uint8_t>((code[i] & 15) | (code[16 + i] & 15) << 4);
}

/// The four bytes of the fifth bits of 32 codes.
inline void pack_fifth_bits(const uint8_t* code, uint8_t* high) {
  for (int i = 0; i < 4; ++i) {
    unsigned byte = 0;
    for (int j = 0; j < 8; ++j) byte |= (code[8 * i + j] >> 4 & 1u) << j;
    high[i] = static_cast<uint8_t>(byte);
  }
}

}  // namespace packmule::quant
