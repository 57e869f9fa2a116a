// Q4_1: 32 weights in 20 bytes (5 bits each), one scale and one minimum.
//
//   byte   0  1   2  3   4 ........ 19
//          [ d ]  [ m ]  [ q[0..15]  ]
//   q[i]   bits 0-3: code of weight i, bits 4-7: code of weight 16 + i
//
//   weight = code * d + m
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ4_1 {
  static constexpr int kElems = kSmallBlock;
  HalfBits d;
  HalfBits m;
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

void decode_q4_1(const void* blocks, float* out, int64_t n_elems);

/// Without importance: round to nearest, the bytes of llama.cpp's KV cache. With it: least weighted squared
/// error over a search of scales and minima.
void encode_q4_1(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
