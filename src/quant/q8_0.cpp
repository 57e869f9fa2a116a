#include "quant/q8_0.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_q8_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ8_0>(blocks, out, n_elems, [](const BlockQ8_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(block.q[i]) * d;
  });
}

}  // namespace packmule::quant
