// Q5_1: 32 weights in 24 bytes (6 bits each), one scale and one minimum.
//
//   byte   0  1   2  3   4 .. 7   8 ........ 23
//          [ d ]  [ m ]  [ high]  [ q[0..15]  ]
//   high   as one little-endian number: bit w is bit 4 of the code of weight w
//   q[i]   bits 0-3: low bits of the code of weight i, bits 4-7: of weight 16 + i
//
//   weight = code * d + m
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ5_1 {
  static constexpr int kElems = kSmallBlock;
  HalfBits d;
  HalfBits m;
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

void decode_q5_1(const void* blocks, float* out, int64_t n_elems);

/// Without importance: round to nearest, the bytes of llama.cpp's KV cache. With it: least weighted squared
/// error over a search of scales and minima.
void encode_q5_1(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
