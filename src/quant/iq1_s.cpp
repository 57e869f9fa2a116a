#include "quant/iq1_s.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_iq1_s(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ1_S>(blocks, out, n_elems, [](const BlockIQ1_S& block, float* y) {
    const float d = half_to_float(block.d);
    for (int e = 0; e < 32; ++e, y += 8) {
      const int group = block.group[e / 4];
      const float scale = d * static_cast<float>(2 * (group >> 12 & 7) + 1);
      const int index = block.index[e] | (group >> (3 * (e % 4)) & 7) << 8;
      const uint64_t grid = kIq1SGrid.at[index];
      const float shift = (group & 0x8000) != 0 ? -kIq1Delta : kIq1Delta;
      for (int i = 0; i < 8; ++i)
        y[i] = scale * (static_cast<float>(static_cast<int8_t>(grid >> (8 * i))) + shift);
    }
  });
}

}  // namespace packmule::quant
