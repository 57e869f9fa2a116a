// TQ1_0: 256 ternary weights in 54 bytes (1.6875 bits each), five base-3 digits a byte, one scale.
//
//   byte   0 ..... 47   48 ........ 51   52 53
//          [ q[48]  ]   [ q_tail[4]  ]   [ d ]
//   q[b], b < 32      digit n: weight 32n + b          (n 0-4, weights 0..159)
//   q[32 + b]         digit n: weight 160 + 16n + b    (n 0-4, b 0-15, weights 160..239)
//   q_tail[b]         digit n: weight 240 + 4n + b     (n 0-3, weights 240..255)
//   A byte is a fraction of 256: its digit n is the integer part of 3 * (byte * 3^n mod 256) / 256.
//
//   weight = (digit - 1) * d
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockTQ1_0 {
  static constexpr int kElems = kSuperBlock;
  uint8_t q[48];
  uint8_t q_tail[4];
  HalfBits d;
};
static_assert(sizeof(BlockTQ1_0) == 54);

void decode_tq1_0(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
