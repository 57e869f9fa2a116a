#include "quant/tq1_0.h"

#include "base/half.h"
#include "quant/each_block.h"

namespace packmule::quant {
namespace {

// Writes n_digits rows of n_bytes weights: row n holds digit n of every byte. Returns the end.
float* write_digits(const uint8_t* bytes, int n_bytes, int n_digits, float d, float* y) {
  int power = 1;
  for (int n = 0; n < n_digits; ++n, power *= 3) {
    for (int b = 0; b < n_bytes; ++b) {
      const int digit = (bytes[b] * power % 256) * 3 / 256;
      *y++ = static_cast<float>(digit - 1) * d;
    }
  }
  return y;
}

}  // namespace

void decode_tq1_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockTQ1_0>(blocks, out, n_elems, [](const BlockTQ1_0& block, float* y) {
    const float d = half_to_float(block.d);
    y = write_digits(block.q, 32, 5, d, y);
    y = write_digits(block.q + 32, 16, 5, d, y);
    write_digits(block.q_tail, 4, 4, d, y);
  });
}

}  // namespace packmule::quant
