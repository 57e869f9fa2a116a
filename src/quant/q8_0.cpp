#include "quant/q8_0.h"

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/encode_math.h"

namespace packmule::quant {
namespace {

// Nearest integer, halves away from zero, in [-127, 127]. std::round would be a call for each value.
int8_t round_to_code(float value) {
  const float raised = value > -127.0f ? value : -127.0f;
  const float held = raised < 127.0f ? raised : 127.0f;
  const int whole = static_cast<int>(held);
  const float rest = held - static_cast<float>(whole);  // exact
  return static_cast<int8_t>(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0));
}

}  // namespace

void decode_q8_0(const void* blocks, float* out, int64_t n_elems) {
  decode_each<BlockQ8_0>(blocks, out, n_elems, [](const BlockQ8_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(block.q[i]) * d;
  });
}

void encode_q8_0(const float* in, const float*, void* blocks, int64_t n_elems) {
  encode_each<BlockQ8_0>(in, nullptr, blocks, n_elems, [](const float* x, const float*, BlockQ8_0& block) {
    const float d = std::abs(extreme_of_block(x)) / 127.0f;
    const float inverse = inverse_or_zero(d);
    block.d = scale_to_half(d);
    for (int i = 0; i < kSmallBlock; ++i) block.q[i] = round_to_code(x[i] * inverse);
  });
}

}  // namespace packmule::quant
