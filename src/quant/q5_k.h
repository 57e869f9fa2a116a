// Q5_K: 256 weights in 176 bytes (5.5 bits each), 8 groups of 32 with a 6-bit scale and a 6-bit minimum.
//
//   byte   0  1   2  3    4 .... 15    16 .... 47   48 ..... 175
//          [ d ]  [dmin]  [scales[12]]  [high[32]]  [  q[128]  ]
//   scales        see k_scales.h; group g = weights 32g..32g+31
//   q[32p + l]    bits 0-3: low bits of the code of weight 64p + l, bits 4-7: of weight 64p + 32 + l
//   high[l]       bit g: bit 4 of the code of weight 32g + l   (p 0-3, g 0-7, l 0-31)
//
//   weight = d * scale * code - dmin * minimum
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ5_K {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  HalfBits dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

void decode_q5_k(const void* blocks, float* out, int64_t n_elems);

/// Least (weighted) squared error over a search of scales and minima; without importance every weight counts
/// the same.
void encode_q5_k(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
