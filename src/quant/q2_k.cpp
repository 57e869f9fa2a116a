#include "quant/q2_k.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_q2_k(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ2_K>(blocks, out, n_elems, [](const BlockQ2_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * static_cast<float>(block.scale_min[group] & 15);
      const float minimum = dmin * static_cast<float>(block.scale_min[group] >> 4);
      const uint8_t* q = block.q + 32 * (group / 8) + 16 * (group % 2);
      const int shift = 2 * (group / 2 % 4);
      for (int i = 0; i < 16; ++i)
        y[16 * group + i] = scale * static_cast<float>(q[i] >> shift & 3) - minimum;
    }
  });
}

}  // namespace packmule::quant
