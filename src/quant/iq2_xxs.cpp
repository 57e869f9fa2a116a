#include "quant/iq2_xxs.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"
#include "quant/grid_decode.h"

namespace packmule::quant {

void decode_iq2_xxs(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ2_XXS>(blocks, out, n_elems, [](const BlockIQ2_XXS& block, float* y) {
    const float d = half_to_float(block.d);
    for (const BlockIQ2_XXS::Group& group : block.group) {
      uint32_t bits;
      std::memcpy(&bits, group.signs_scale, sizeof bits);
      const float scale = d * (0.5f + static_cast<float>(bits >> 28)) * 0.25f;
      for (int a = 0; a < 4; ++a, y += 8)
        write_signed_grid(kIq2XxsGrid.at[group.index[a]], kIq2Signs.at[bits >> (7 * a) & 127], scale, y);
    }
  });
}

}  // namespace packmule::quant
