// IQ2_XS: 256 weights in 74 bytes (2.3125 bits each), 16 groups of 16 with a 4-bit scale.
//
//   byte   0  1   2 ........ 65   66 .... 73
//          [ d ]  [entry[32]   ]  [scale[8]]
//   entry[e]    weights 8e..8e+7: bits 0-8 index kIq2XsGrid, bits 9-15 index kIq2Signs
//   scale[g]    bits 0-3: scale of weights 32g..32g+15, bits 4-7: of weights 32g+16..32g+31
//
//   weight = d * (0.5 + scale) * 0.25 * grid * sign
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ2_XS {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  uint16_t entry[32];
  uint8_t scale[8];
};
static_assert(sizeof(BlockIQ2_XS) == 74);

void decode_iq2_xs(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
