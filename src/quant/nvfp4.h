// NVFP4: 64 weights in 36 bytes (4.5 bits each), 4 groups of 16 with an 8-bit float as scale.
//
//   byte   0 ..... 3    4 ..... 35
//          [scale[4]]   [ q[32]  ]
//   scale[s]    unsigned E4M3 (bias 7) of group s = weights 16s..16s+15
//   q[8s + i]   bits 0-3: code of weight 16s + i, bits 4-7: code of weight 16s + 8 + i   (i 0-7)
//
//   weight = kFp4DoubledValues[code] * scale / 2
//
// The tensor may come with a `.scale` of its own, which is not applied here.
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockNVFP4 {
  static constexpr int kElems = 64;
  uint8_t scale[4];
  uint8_t q[32];
};
static_assert(sizeof(BlockNVFP4) == 36);

/// Half the value of an unsigned E4M3 number (bit 7 is no part of it), exact; 0 for 127, which is its NaN.
/// Static so that ISA files may include it.
[[nodiscard]] static inline float nvfp4_half_scale(uint8_t code) {
  const uint32_t exponent = code >> 3 & 15u;
  const uint32_t mantissa = code & 7u;
  if (code == 127) return 0.0f;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
  return __builtin_bit_cast(float, (exponent + 119) << 23 | mantissa << 20);
}

void decode_nvfp4(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
