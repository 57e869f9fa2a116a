#include "quant/q4_1.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/plain_codes.h"
#include "quant/searched_codes.h"

namespace packmule::quant {

void decode_q4_1(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ4_1>(blocks, out, n_elems, [](const BlockQ4_1& block, float* y) {
    const float d = half_to_float(block.d);
    const float m = half_to_float(block.m);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>(block.q[i] & 15) * d + m;
      y[16 + i] = static_cast<float>(block.q[i] >> 4) * d + m;
    }
  });
}

void encode_q4_1(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockQ4_1>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockQ4_1& block) {
        const ScaledCodes codes =
            weight == nullptr ? plain_ranged_codes<15>(x) : searched_ranged_codes<15>(x, weight);
        block.d = codes.d;
        block.m = codes.m;
        pack_nibbles(codes.code, block.q);
      });
}

}  // namespace packmule::quant
