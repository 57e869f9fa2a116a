// IQ2_S: 256 weights in 82 bytes (2.5625 bits each), 16 groups of 16 with a 4-bit scale.
//
//   byte   0  1   2 ..... 33   34 .... 65   66 ......... 73   74 .... 81
//          [ d ]  [index[32]]  [sign[32]]   [index_high[8]]   [scale[8]]
//   index[e]        low eight bits of the index into kIq2SGrid for weights 8e..8e+7
//   index_high[g]   bits 2a, 2a+1: upper two bits of the index e = 4g + a   (g 0-7, a 0-3)
//   sign[e]         bit i set = weight 8e + i is negative
//   scale[g]        bits 0-3: scale of weights 32g..32g+15, bits 4-7: of weights 32g+16..32g+31
//
//   weight = d * (0.5 + scale) * 0.25 * grid * sign
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ2_S {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  uint8_t index[32];
  uint8_t sign[32];
  uint8_t index_high[8];
  uint8_t scale[8];
};
static_assert(sizeof(BlockIQ2_S) == 82);

void decode_iq2_s(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
