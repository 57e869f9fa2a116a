// MXFP4 (OCP microscaling FP4): 32 weights in 17 bytes (4.25 bits each), one power of two as scale.
//
//   byte   0          1 ........ 16
//          [exponent] [ q[0..15]  ]
//   q[i]   bits 0-3: code of weight i, bits 4-7: code of weight 16 + i
//
//   weight = kFp4DoubledValues[code] * 2^(exponent - 128)
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockMXFP4 {
  static constexpr int kElems = kSmallBlock;
  uint8_t exponent;
  uint8_t q[16];
};
static_assert(sizeof(BlockMXFP4) == 17);

/// 2^(exponent - 128), exact; denormal for 0 and 1. Static, and without std::bit_cast (a weak symbol when it is
/// not inlined), so that ISA files may include it.
[[nodiscard]] static inline float mxfp4_scale(uint8_t exponent) {
  const uint32_t bits = exponent < 2 ? 0x200000u << exponent : (exponent - 1u) << 23;
  return __builtin_bit_cast(float, bits);
}

void decode_mxfp4(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
