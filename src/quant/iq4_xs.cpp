#include "quant/iq4_xs.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_iq4_xs(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ4_XS>(blocks, out, n_elems, [](const BlockIQ4_XS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int group = 0; group < 8; ++group, y += 32) {
      const int low = block.scale_low[group / 2] >> (4 * (group % 2)) & 15;
      const int up = block.scale_high >> (2 * group) & 3;
      const float scale = d * static_cast<float>((low | up << 4) - 32);
      const uint8_t* q = block.q + 16 * group;
      for (int i = 0; i < 16; ++i) {
        y[i] = scale * static_cast<float>(kIq4Values.at[q[i] & 15]);
        y[16 + i] = scale * static_cast<float>(kIq4Values.at[q[i] >> 4]);
      }
    }
  });
}

}  // namespace packmule::quant
