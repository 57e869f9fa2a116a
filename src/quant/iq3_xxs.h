// IQ3_XXS: 256 weights in 98 bytes (3.0625 bits each), 8 groups of 32 with a 4-bit scale.
//
//   byte   0  1   2 ..... 65   66 + 4g .. 69 + 4g
//          [ d ]  [index[64]]  [signs_scale[g]  ]   g = 0..7, weights 32g..32g+31
//   index[e]          entry of kIq3XxsGrid for weights 4e..4e+3
//   signs_scale[g]    as one little-endian number: bits 7a..7a+6 index kIq2Signs for weights
//                     32g + 8a .. 32g + 8a + 7 (a 0-3), bits 28-31 are the scale
//
//   weight = d * (0.5 + scale) * 0.5 * grid * sign
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ3_XXS {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  uint8_t index[64];
  uint8_t signs_scale[8][4];
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

void decode_iq3_xxs(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
