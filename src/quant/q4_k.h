// Q4_K: 256 weights in 144 bytes (4.5 bits each), 8 groups of 32 with a 6-bit scale and a 6-bit minimum.
//
//   byte   0  1   2  3    4 .... 15    16 ..... 143
//          [ d ]  [dmin]  [scales[12]]  [  q[128]  ]
//   scales        see k_scales.h; group g = weights 32g..32g+31
//   q[32p + l]    bits 0-3: code of weight 64p + l, bits 4-7: code of weight 64p + 32 + l   (p 0-3, l 0-31)
//
//   weight = d * scale * code - dmin * minimum
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ4_K {
  static constexpr int kElems = kSuperBlock;
  HalfBits d;
  HalfBits dmin;
  uint8_t scales[12];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

void decode_q4_k(const void* blocks, float* out, int64_t n_elems);

/// Least (weighted) squared error over a search of scales and minima; without importance every weight counts
/// the same.
void encode_q4_k(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
