// IQ1_M: 256 weights in 56 bytes (1.75 bits each), 16 groups of 16 with a 3-bit scale; a shift per 8 weights.
//
//   byte   0 ..... 31   32 ......... 47   48 ..... 55
//          [index[32]]  [high_shift[16]]  [scales[4]]
//   index[e]       low eight bits of the index into kIq1SGrid for weights 8e..8e+7
//   high_shift     nibble e % 2 of byte e/2: bits 0-2 are the upper bits of index e, bit 3: the shift is
//   negative scales[k/4]    bits 3(k%4)..3(k%4)+2: scale of group k = weights 16k..16k+15 d              a
//   float16 whose nibbles, lowest first, are the top nibbles of scales[0..3]
//
//   weight = d * (2 * scale + 1) * (grid + shift), shift = +-kIq1Delta
#pragma once

#include <cstdint>

#include "quant/block.h"

namespace packmule::quant {

struct BlockIQ1_M {
  static constexpr int kElems = kSuperBlock;
  uint8_t index[32];
  uint8_t high_shift[16];
  uint16_t scales[4];
};
static_assert(sizeof(BlockIQ1_M) == 56);

void decode_iq1_m(const void* blocks, float* out, int64_t n_elems);

}  // namespace packmule::quant
