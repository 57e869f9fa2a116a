#include "quant/mxfp4.h"

#include "quant/codebooks.h"
#include "quant/each_block.h"

namespace packmule::quant {

void decode_mxfp4(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockMXFP4>(blocks, out, n_elems, [](const BlockMXFP4& block, float* y) {
    const float scale = mxfp4_scale(block.exponent);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>(kFp4DoubledValues.at[block.q[i] & 15]) * scale;
      y[16 + i] = static_cast<float>(kFp4DoubledValues.at[block.q[i] >> 4]) * scale;
    }
  });
}

}  // namespace packmule::quant
