#include "quant/q5_k.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/k_range.h"
#include "quant/k_scales.h"

namespace packmule::quant {

void decode_q5_k(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ5_K>(blocks, out, n_elems, [](const BlockQ5_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    for (int group = 0; group < kScaleGroups; ++group) {
      const KScale stored = get_k_scale(block.scales, group);
      const float scale = d * static_cast<float>(stored.scale);
      const float minimum = dmin * static_cast<float>(stored.minimum);
      const uint8_t* q = block.q + 32 * (group / 2);
      const int shift = 4 * (group % 2);
      for (int i = 0; i < 32; ++i) {
        const int code = (q[i] >> shift & 15) | (block.high[i] >> group & 1) << 4;
        y[32 * group + i] = scale * static_cast<float>(code) - minimum;
      }
    }
  });
}

void encode_q5_k(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockQ5_K>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockQ5_K& block) {
        const KRangeCodes codes = fit_k_range(x, weight, 31);
        block = {.d = codes.d, .dmin = codes.dmin, .scales = {}, .high = {}, .q = {}};
        for (int group = 0; group < kScaleGroups; ++group)
          set_k_scale(block.scales, group, codes.group[group]);
        for (int w = 0; w < kSuperBlock; ++w) {
          block.q[32 * (w / 64) + w % 32] |= static_cast<uint8_t>((codes.code[w] & 15) << (4 * (w / 32 % 2)));
          block.high[w % 32] |= static_cast<uint8_t>(codes.code[w] >> 4 << (w / 32));
        }
      });
}

}  // namespace packmule::quant
