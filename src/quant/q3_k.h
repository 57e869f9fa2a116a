// Q3_K: 256 weights in 110 bytes (3.4375 bits each), 16 groups of 16 with a 6-bit scale.
//
//   byte   0 ..... 31   32 ... 95   96 ..... 107   108 109
//          [high[32]]   [ q[64] ]   [scales[12]]   [  d  ]
//   q[32H + l]    bits 2j, 2j+1: low bits of the code of weight 128H + 32j + l   (H 0-1, j 0-3, l 0-31)
//   high[l]       bit 4H + j: third bit of that code, stored inverted: 0 takes 4 away
//   scales        group k = weights 16k..16k+15: low four bits in the low (k < 8) or high nibble of
//                 scales[k % 8], upper two in bits 2(k/4), 2(k/4)+1 of scales[8 + k % 4]
//
//   weight = d * (scale - 32) * code, code -4..3
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ3_K {
  static constexpr int kElems = kSuperBlock;
  uint8_t high[32];
  uint8_t q[64];
  uint8_t scales[12];
  HalfBits d;
};
static_assert(sizeof(BlockQ3_K) == 110);

void decode_q3_k(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
