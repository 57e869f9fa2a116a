#include "quant/q4_0.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/plain_codes.h"
#include "quant/searched_codes.h"

namespace packmule::quant {

void decode_q4_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ4_0>(blocks, out, n_elems, [](const BlockQ4_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>((block.q[i] & 15) - 8) * d;
      y[16 + i] = static_cast<float>((block.q[i] >> 4) - 8) * d;
    }
  });
}

void encode_q4_0(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockQ4_0>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockQ4_0& block) {
        const ScaledCodes codes =
            weight == nullptr ? plain_centred_codes<8>(x) : searched_centred_codes<8>(x, weight);
        block.d = codes.d;
        pack_nibbles(codes.code, block.q);
      });
}

}  // namespace packmule::quant
