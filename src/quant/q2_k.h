// Q2_K: 256 weights in 84 bytes (2.625 bits each), 16 groups of 16 with a 4-bit scale and a 4-bit minimum.
//
//   byte   0 ........... 15   16 ..... 79   80 81   82  83
//          [scale_min[16] ]   [  q[64]   ]  [ d ]   [dmin]
//   scale_min[k]  group k = weights 16k..16k+15: bits 0-3 scale, bits 4-7 minimum
//   q[32H + l]    bits 2j, 2j+1: code of weight 128H + 32j + l   (H 0-1, j 0-3, l 0-31)
//
//   weight = d * scale * code - dmin * minimum
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ2_K {
  static constexpr int kElems = kSuperBlock;
  uint8_t scale_min[16];
  uint8_t q[64];
  HalfBits d;
  HalfBits dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

void decode_q2_k(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
