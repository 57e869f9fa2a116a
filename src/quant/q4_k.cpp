#include "quant/q4_k.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/k_range.h"
#include "quant/k_scales.h"

namespace packmule::quant {

void decode_q4_k(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ4_K>(blocks, out, n_elems, [](const BlockQ4_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    for (int group = 0; group < kScaleGroups; ++group) {
      const KScale stored = get_k_scale(block.scales, group);
      const float scale = d * static_cast<float>(stored.scale);
      const float minimum = dmin * static_cast<float>(stored.minimum);
      const uint8_t* q = block.q + 32 * (group / 2);
      const int shift = 4 * (group % 2);
      for (int i = 0; i < 32; ++i)
        y[32 * group + i] = scale * static_cast<float>(q[i] >> shift & 15) - minimum;
    }
  });
}

void encode_q4_k(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockQ4_K>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockQ4_K& block) {
        const KRangeCodes codes = fit_k_range(x, weight, 15);
        block = {.d = codes.d, .dmin = codes.dmin, .scales = {}, .q = {}};
        for (int group = 0; group < kScaleGroups; ++group)
          set_k_scale(block.scales, group, codes.group[group]);
        for (int w = 0; w < kSuperBlock; ++w) {
          block.q[32 * (w / 64) + w % 32] |= static_cast<uint8_t>((codes.code[w] & 15) << (4 * (w / 32 % 2)));
        }
      });
}

}  // namespace packmule::quant
