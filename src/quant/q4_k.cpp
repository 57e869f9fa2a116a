#include "quant/q4_k.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/k_scales.h"

namespace packmule::quant {

void decode_q4_k(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ4_K>(blocks, out, n_elems, [](const BlockQ4_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    for (int group = 0; group < kScaleGroups; ++group) {
      const KScale stored = get_k_scale(block.scales, group);
      const float scale = d * static_cast<float>(stored.scale);
      const float minimum = dmin * static_cast<float>(stored.minimum);
      const uint8_t* q = block.q + 32 * (group / 2);
      const int shift = 4 * (group % 2);
      for (int i = 0; i < 32; ++i)
        y[32 * group + i] = scale * static_cast<float>(q[i] >> shift & 15) - minimum;
    }
  });
}

}  // namespace packmule::quant
