#include "quant/q3_k.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_q3_k(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ3_K>(blocks, out, n_elems, [](const BlockQ3_K& block, float* y) {
    const float d = half_to_float(block.d);
    for (int group = 0; group < 16; ++group) {
      const int low = block.scales[group % 8] >> (4 * (group / 8)) & 15;
      const int up = block.scales[8 + group % 4] >> (2 * (group / 4)) & 3;
      const float scale = d * static_cast<float>((low | up << 4) - 32);
      const int half = group / 8;
      const int j = group / 2 % 4;
      const int first = 16 * (group % 2);
      for (int i = 0; i < 16; ++i) {
        const int code = block.q[32 * half + first + i] >> (2 * j) & 3;
        const bool is_high = (block.high[first + i] >> (4 * half + j) & 1) != 0;
        y[16 * group + i] = scale * static_cast<float>(is_high ? code : code - 4);
      }
    }
  });
}

}  // namespace packmule::quant
