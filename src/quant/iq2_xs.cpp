#include "quant/iq2_xs.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"
#include "quant/grid_decode.h"

namespace packmule::quant {

void decode_iq2_xs(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ2_XS>(blocks, out, n_elems, [](const BlockIQ2_XS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int e = 0; e < 32; ++e, y += 8) {
      const int stored = block.scale[e / 4] >> (4 * (e / 2 % 2)) & 15;
      const float scale = d * (0.5f + static_cast<float>(stored)) * 0.25f;
      write_signed_grid(kIq2XsGrid.at[block.entry[e] & 511], kIq2Signs.at[block.entry[e] >> 9], scale, y);
    }
  });
}

}  // namespace packmule::quant
