#include "quant/q5_0.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/plain_codes.h"
#include "quant/searched_codes.h"

namespace packmule::quant {

void decode_q5_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ5_0>(blocks, out, n_elems, [](const BlockQ5_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      const int low_half = (block.q[i] & 15) | (block.high[i / 8] >> (i % 8) & 1) << 4;
      const int high_half = block.q[i] >> 4 | (block.high[2 + i / 8] >> (i % 8) & 1) << 4;
      y[i] = static_cast<float>(low_half - 16) * d;
      y[16 + i] = static_cast<float>(high_half - 16) * d;
    }
  });
}

void encode_q5_0(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockQ5_0>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockQ5_0& block) {
        const ScaledCodes codes =
            weight == nullptr ? plain_centred_codes<16>(x) : searched_centred_codes<16>(x, weight);
        block.d = codes.d;
        pack_fifth_bits(codes.code, block.high);
        pack_nibbles(codes.code, block.q);
      });
}

}  // namespace packmule::quant
