#include "quant/iq3_xxs.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"
#include "quant/grid_decode.h"

namespace packmule::quant {

void decode_iq3_xxs(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ3_XXS>(blocks, out, n_elems, [](const BlockIQ3_XXS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int group = 0; group < 8; ++group) {
      uint32_t bits;
      std::memcpy(&bits, block.signs_scale[group], sizeof bits);
      const float scale = d * (0.5f + static_cast<float>(bits >> 28)) * 0.5f;
      const uint8_t* index = block.index + 8 * group;
      for (int a = 0; a < 4; ++a, y += 8) {
        const unsigned signs = kIq2Signs.at[bits >> (7 * a) & 127];
        write_signed_grid(kIq3XxsGrid.at[index[2 * a]], signs, scale, y);
        write_signed_grid(kIq3XxsGrid.at[index[2 * a + 1]], signs >> 4, scale, y + 4);
      }
    }
  });
}

}  // namespace packmule::quant
