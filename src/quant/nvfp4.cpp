#include "quant/nvfp4.h"

#include "quant/codebooks.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_nvfp4(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockNVFP4>(blocks, out, n_elems, [](const BlockNVFP4& block, float* y) {
    for (int group = 0; group < 4; ++group, y += 16) {
      const float scale = nvfp4_half_scale(block.scale[group]);
      const uint8_t* q = block.q + 8 * group;
      for (int i = 0; i < 8; ++i) {
        y[i] = static_cast<float>(kFp4DoubledValues.at[q[i] & 15]) * scale;
        y[8 + i] = static_cast<float>(kFp4DoubledValues.at[q[i] >> 4]) * scale;
      }
    }
  });
}

}  // namespace packmule::quant
