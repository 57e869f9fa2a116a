// Q6_K: 256 weights in 210 bytes (6.5625 bits each), 16 groups of 16 with a signed 8-bit scale.
//
//   byte   0 .... 127   128 .... 191   192 .... 207   208 209
//          [ q[128] ]   [ high[64] ]   [ scale[16] ]  [  d  ]
//   q[64H + l]       bits 0-3: low bits of the code of weight 128H + l, bits 4-7: of weight 128H + 64 + l (l
//   0-63) high[32H + l]    bits 2j, 2j+1: upper bits of the code of weight 128H + 32j + l   (H 0-1, j 0-3, l
//   0-31) scale[k]         group k = weights 16k..16k+15
//
//   weight = d * scale * (code - 32)
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ6_K {
  static constexpr int kElems = kSuperBlock;
  uint8_t q[128];
  uint8_t high[64];
  int8_t scale[16];
  HalfBits d;
};
static_assert(sizeof(BlockQ6_K) == 210);

void decode_q6_k(const void* blocks, float* out, int64_t n_elems);

/// Least (weighted) squared error over a search of scales; without importance every weight counts the same.
void encode_q6_k(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
