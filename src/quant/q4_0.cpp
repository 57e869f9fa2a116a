#include "quant/q4_0.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_q4_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ4_0>(blocks, out, n_elems, [](const BlockQ4_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>((block.q[i] & 15) - 8) * d;
      y[16 + i] = static_cast<float>((block.q[i] >> 4) - 8) * d;
    }
  });
}

}  // namespace packmule::quant
