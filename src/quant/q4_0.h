// Q4_0: 32 weights in 18 bytes (4.5 bits each), one scale, codes around 8.
//
//   byte   0  1   2 ........ 17
//          [ d ]  [ q[0..15]  ]
//   q[i]   bits 0-3: code of weight i, bits 4-7: code of weight 16 + i
//
//   weight = (code - 8) * d
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ4_0 {
  static constexpr int kElems = kSmallBlock;
  HalfBits d;
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

void decode_q4_0(const void* blocks, float* out, int64_t n_elems);

/// Without importance: round to nearest, the bytes of llama.cpp's KV cache. With it: least weighted squared
/// error over a search of scales.
void encode_q4_0(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
