// IQ3_S: 256 weights in 110 bytes (3.4375 bits each), 8 groups of 32 with a 4-bit scale.
//
//   byte   0  1   2 ..... 65   66 ......... 73   74 ... 105   106 . 109
//          [ d ]  [index[64]]  [index_high[8]]   [sign[32]]   [scale[4]]
//   index[e]        low eight bits of the index into kIq3SGrid for weights 4e..4e+3
//   index_high[g]   bit q: upper bit of the index e = 8g + q   (g 0-7, q 0-7)
//   sign[z]         bit i set = weight 8z + i is negative
//   scale[g/2]      scale of weights 32g..32g+31: low nibble for even g
//
//   weight = d * (1 + 2 * scale) * grid * sign
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ3_S {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  uint8_t index[64];
  uint8_t index_high[8];
  uint8_t sign[32];
  uint8_t scale[4];
};
static_assert(sizeof(BlockIQ3_S) == 110);

void decode_iq3_s(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
