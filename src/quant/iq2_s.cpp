#include "quant/iq2_s.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"
#include "quant/grid_decode.h"

namespace packmule::quant {

void decode_iq2_s(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ2_S>(blocks, out, n_elems, [](const BlockIQ2_S& block, float* y) {
    const float d = half_to_float(block.d);
    for (int e = 0; e < 32; ++e, y += 8) {
      const int stored = block.scale[e / 4] >> (4 * (e / 2 % 2)) & 15;
      const float scale = d * (0.5f + static_cast<float>(stored)) * 0.25f;
      const int index = block.index[e] | (block.index_high[e / 4] >> (2 * (e % 4)) & 3) << 8;
      write_signed_grid(kIq2SGrid.at[index], block.sign[e], scale, y);
    }
  });
}

}  // namespace packmule::quant
