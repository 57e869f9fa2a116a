// IQ1_S: 256 weights in 50 bytes (1.5625 bits each), 8 groups of 32 with a 3-bit scale and a shift.
//
//   byte   0  1   2 ..... 33   34 .... 49
//          [ d ]  [index[32]]  [group[8]]
//   index[e]    low eight bits of the index into kIq1SGrid for weights 8e..8e+7
//   group[g]    bits 3a..3a+2: upper bits of the index e = 4g + a (a 0-3), bits 12-14: scale,
//               bit 15: the shift is negative
//
//   weight = d * (2 * scale + 1) * (grid + shift), shift = +-kIq1Delta
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ1_S {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  uint8_t index[32];
  uint16_t group[8];
};
static_assert(sizeof(BlockIQ1_S) == 50);

void decode_iq1_s(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
