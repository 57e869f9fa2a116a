// IQ4_NL: 32 weights in 18 bytes (4.5 bits each), one scale; the codes index a table of uneven steps.
//
//   byte   0  1   2 ........ 17
//          [ d ]  [ q[0..15]  ]
//   q[i]   bits 0-3: code of weight i, bits 4-7: code of weight 16 + i
//
//   weight = d * kIq4Values[code]
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ4_NL {
  static constexpr int kElems = kSmallBlock;
  HalfBits d;
  uint8_t q[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

void decode_iq4_nl(const void* blocks, float* out, int64_t n_elems);

/// Without importance: the best of sixteen fixed scales, errors weighted by the squares of the values: the
/// bytes of ggml's quantizer. With it: least weighted squared error over a search of scales.
void encode_iq4_nl(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
