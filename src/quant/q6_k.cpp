#include "quant/q6_k.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_q6_k(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ6_K>(blocks, out, n_elems, [](const BlockQ6_K& block, float* y) {
    const float d = half_to_float(block.d);
    for (int half = 0; half < 2; ++half) {
      for (int l = 0; l < 128; ++l) {
        const int j = l / 32;
        const int low = block.q[64 * half + l % 64] >> (4 * (j / 2)) & 15;
        const int up = block.high[32 * half + l % 32] >> (2 * j) & 3;
        const float scale = d * static_cast<float>(block.scale[8 * half + l / 16]);
        y[128 * half + l] = scale * static_cast<float>((low | up << 4) - 32);
      }
    }
  });
}

}  // namespace packmule::quant
