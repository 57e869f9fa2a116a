#include "quant/q6_k.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "quant/each_block.h"
#include "quant/encode_math.h"
#include "quant/fit_scale.h"
#include "quant/importance.h"

namespace packmule::quant {
namespace {

constexpr int kGroupElems = 16;
constexpr int kGroups = kSuperBlock / kGroupElems;
constexpr NearestInteger kNearest{-32, 31};

struct Scales {
  float d = 0;  // as stored
  int8_t of_group[kGroups]{};
};

float nearest_code(float x, const Scales& scales, int group) {
  return kNearest(x * inverse_or_zero(scales.d * static_cast<float>(scales.of_group[group])));
}

// The best scale of one group among the sixteen around the exact one.
int8_t choose_scale(const float* x, const float* w, float d, float exact) {
  const float quotient = d != 0.0f ? exact / d : 0.0f;
  const int first = static_cast<int>(std::clamp(std::round(quotient) - 7.0f, -128.0f, 112.0f));
  const Lanes scale = make_lanes([&](int lane) { return d * static_cast<float>(first + lane); });
  return static_cast<int8_t>(first + least_lane(sum_errors(x, w, kGroupElems, scale, Lanes{}, kNearest)));
}

// (Fitting d to the chosen scales and codes and choosing again gains 0.04 % only.)
Scales choose_scales(const WeightedBlock<kSuperBlock>& block) {
  float exact[kGroups];
  float extreme = 0;
  for (int g = 0; g < kGroups; ++g) {
    exact[g] = fit_scale(block.x + g * kGroupElems, block.w + g * kGroupElems, kGroupElems, kNearest.low,
                         kNearest.high, kNearest);
    if (std::abs(exact[g]) > std::abs(extreme)) extreme = exact[g];
  }
  Scales scales{.d = half_to_float(scale_to_half(extreme / -128.0f))};
  for (int g = 0; g < kGroups; ++g)
    scales.of_group[g] =
        choose_scale(block.x + g * kGroupElems, block.w + g * kGroupElems, scales.d, exact[g]);
  return scales;
}

}  // namespace

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

void encode_q6_k(const float* in, const float* importance, void* blocks, int64_t n_elems) {
  encode_each<BlockQ6_K>(
      in, importance, blocks, n_elems, [](const float* x, const float* weight, BlockQ6_K& block) {
        const WeightedBlock<kSuperBlock> values(x, weight);
        const Scales scales = choose_scales(values);
        block = {.q = {}, .high = {}, .scale = {}, .d = scale_to_half(scales.d)};
        std::copy_n(scales.of_group, kGroups, block.scale);
        for (int w = 0; w < kSuperBlock; ++w) {
          const int code = 32 + static_cast<int>(nearest_code(values.x[w], scales, w / kGroupElems));
          const int half = w / 128;
          const int j = w / 32 % 4;
          block.q[64 * half + w % 64] |= static_cast<uint8_t>((code & 15) << (4 * (j / 2)));
          block.high[32 * half + w % 32] |= static_cast<uint8_t>(code >> 4 << (2 * j));
        }
      });
}

}  // namespace packmule::quant
