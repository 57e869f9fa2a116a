// TQ2_0: 256 ternary weights in 66 bytes (2.0625 bits each), two bits a weight, one scale.
//
//   byte   0 ..... 63   64 65
//          [ q[64]  ]   [ d ]
//   q[32H + l]    bits 2j, 2j+1: code of weight 128H + 32j + l   (H 0-1, j 0-3, l 0-31)
//
//   weight = (code - 1) * d   (a packer writes codes 0 to 2; 3 stands for 2d)
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockTQ2_0 {
  static constexpr int kElems = kSuperBlock;
  uint8_t q[64];
  HalfBits d;
};
static_assert(sizeof(BlockTQ2_0) == 66);

void decode_tq2_0(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
