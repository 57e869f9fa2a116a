// Q8_0: 32 weights in 34 bytes (8.5 bits each), one scale.
//
//   byte   0  1   2 ........ 33
//          [ d ]  [ q[0..31]  ]   signed
//
//   weight = q[w] * d
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockQ8_0 {
  static constexpr int kElems = kSmallBlock;
  HalfBits d;
  int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

void decode_q8_0(const void* blocks, float* out, int64_t n_elems);

/// The scale is the largest magnitude / 127; codes are rounded, halves away from zero, with the scale before
/// it became a float16: the bytes of llama.cpp. Importance is ignored, so little is left to gain.
void encode_q8_0(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
