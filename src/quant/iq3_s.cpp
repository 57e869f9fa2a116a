#include "quant/iq3_s.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"
#include "quant/grid_decode.h"

namespace packmule::quant {

void decode_iq3_s(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ3_S>(blocks, out, n_elems, [](const BlockIQ3_S& block, float* y) {
    const float d = half_to_float(block.d);
    for (int e = 0; e < 64; ++e, y += 4) {
      const int group = e / 8;
      const int stored = block.scale[group / 2] >> (4 * (group % 2)) & 15;
      const float scale = d * static_cast<float>(1 + 2 * stored);
      const int index = block.index[e] | (block.index_high[group] >> (e % 8) & 1) << 8;
      write_signed_grid(kIq3SGrid.at[index], block.sign[e / 2] >> (4 * (e % 2)), scale, y);
    }
  });
}

}  // namespace packmule::quant
