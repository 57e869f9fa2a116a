// IQ2_XXS: 256 weights in 66 bytes (2.0625 bits each), 8 groups of 32 of eight bytes.
//
//   byte   0  1   2 + 8g ........... 9 + 8g
//          [ d ]  [index[4] | signs_scale]   g = 0..7, weights 32g..32g+31
//   index[a]      entry of kIq2XxsGrid for weights 32g + 8a .. 32g + 8a + 7   (a 0-3)
//   signs_scale   as one little-endian number: bits 7a..7a+6 index kIq2Signs, bits 28-31 are the scale
//
//   weight = d * (0.5 + scale) * 0.25 * grid * sign
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ2_XXS {
  static constexpr int kElems = kSuperBlock;
  struct Group {
    uint8_t index[4];
    uint8_t signs_scale[4];
  };
  HalfBits d;
  Group group[8];
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

void decode_iq2_xxs(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
