#include "quant/iq1_m.h"

#include "base/half.h"
#include "quant/codebooks.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_iq1_m(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockIQ1_M>(blocks, out, n_elems, [](const BlockIQ1_M& block, float* y) {
    int d_bits = 0;
    for (int i = 0; i < 4; ++i) d_bits |= block.scales[i] >> 12 << (4 * i);
    const float d = half_to_float(static_cast<HalfBits>(d_bits));
    for (int e = 0; e < 32; ++e, y += 8) {
      const int group = e / 2;
      const float scale = d * static_cast<float>(2 * (block.scales[group / 4] >> (3 * (group % 4)) & 7) + 1);
      const int high_shift = block.high_shift[e / 2] >> (4 * (e % 2)) & 15;
      const uint64_t grid = kIq1SGrid.at[block.index[e] | (high_shift & 7) << 8];
      const float shift = (high_shift & 8) != 0 ? -kIq1Delta : kIq1Delta;
      for (int i = 0; i < 8; ++i)
        y[i] = scale * (static_cast<float>(static_cast<int8_t>(grid >> (8 * i))) + shift);
    }
  });
}

}  // namespace packmule::quant
