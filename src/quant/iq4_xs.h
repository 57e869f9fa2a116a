// IQ4_XS: 256 weights in 136 bytes (4.25 bits each), 8 groups of 32 with a 6-bit scale; codes as in IQ4_NL.
//
//   byte   0  1   2 ....... 3    4 ......... 7    8 ..... 135
//          [ d ]  [scale_high]   [scale_low[4]]   [ q[128] ]
//   scale_low[g/2]  low four bits of the scale of group g = weights 32g..32g+31: low nibble for even g
//   scale_high      bits 2g, 2g+1: its upper two bits
//   q[16g + i]      bits 0-3: code of weight 32g + i, bits 4-7: code of weight 32g + 16 + i
//
//   weight = d * (scale - 32) * kIq4Values[code]
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ4_XS {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  uint16_t scale_high;
  uint8_t scale_low[4];
  uint8_t q[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136);

void decode_iq4_xs(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
