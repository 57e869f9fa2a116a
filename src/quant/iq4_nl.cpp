#include "quant/iq4_nl.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_iq4_nl(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ4_NL>(blocks, out, n_elems, [](const BlockIQ4_NL& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      y[i] = d * static_cast<float>(kIq4Values.at[block.q[i] & 15]);
      y[16 + i] = d * static_cast<float>(kIq4Values.at[block.q[i] >> 4]);
    }
  });
}

}  // namespace packmule::quant
