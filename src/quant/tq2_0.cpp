#include "quant/tq2_0.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_tq2_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockTQ2_0>(blocks, out, n_elems, [](const BlockTQ2_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int w = 0; w < kSuperBlock; ++w) {
      const int code = block.q[32 * (w / 128) + w % 32] >> (2 * (w / 32 % 4)) & 3;
      y[w] = static_cast<float>(code - 1) * d;
    }
  });
}

}  // namespace packmule::quant
