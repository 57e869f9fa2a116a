#include "quant/q6_k.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

struct Choice {
  float d = 0;  // as stored
  int8_t scale[kGroups]{};
  float error = std::numeric_limits<float>::infinity();
};

float nearest_code(float x, const Choice& choice, int group) {
  return kNearest(x * inverse_or_zero(choice.d * static_cast<float>(choice.scale[group])));
}

// The best scale of one group among the sixteen around the exact one.
int8_t choose_group(const float* x, const float* w, float d, float exact, float& error) {
  const float quotient = d != 0.0f ? exact / d : 0.0f;
  const int first = static_cast<int>(std::clamp(std::round(quotient) - 7.0f, -128.0f, 112.0f));
  const Lanes scale = make_lanes([&](int lane) { return d * static_cast<float>(first + lane); });
  const Lanes errors = sum_errors(x, w, kGroupElems, scale, Lanes{}, kNearest);
  const int best = least_lane(errors);
  error += errors.get(best);
  return static_cast<int8_t>(first + best);
}

// The d that fits the block best with the choice's scales and its codes.
float refit(const WeightedBlock<kSuperBlock>& block, const Choice& choice) {
  double aa = 0;
  double xa = 0;
  for (int i = 0; i < kSuperBlock; ++i) {
    const int group = i / kGroupElems;
    const double a = choice.scale[group] * static_cast<double>(nearest_code(block.x[i], choice, group));
    aa += block.w[i] * a * a;
    xa += block.w[i] * a * block.x[i];
  }
  return aa > 0 ? static_cast<float>(xa / aa) : choice.d;
}

Choice choose_scales(const WeightedBlock<kSuperBlock>& block) {
  constexpr int kRounds = 4;
  float exact[kGroups];
  float extreme = 0;
  for (int g = 0; g < kGroups; ++g) {
    exact[g] = fit_scale(block.x + g * kGroupElems, block.w + g * kGroupElems, kGroupElems, kNearest.low,
                         kNearest.high, kNearest);
    if (std::abs(exact[g]) > std::abs(extreme)) extreme = exact[g];
  }
  float d = extreme / -128.0f;
  Choice best;
  for (int round = 0; round < kRounds; ++round) {
    Choice choice;
    choice.d = half_to_float(scale_to_half(d));
    choice.error = 0;
    for (int g = 0; g < kGroups; ++g)
      choice.scale[g] = choose_group(block.x + g * kGroupElems, block.w + g * kGroupElems, choice.d, exact[g],
                                     choice.error);
    if (!(choice.error < best.error)) break;
    best = choice;
    d = refit(block, choice);
  }
  return best;
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
        const Choice choice = choose_scales(values);
        block = {.q = {}, .high = {}, .scale = {}, .d = scale_to_half(choice.d)};
        std::copy_n(choice.scale, kGroups, block.scale);
        for (int w = 0; w < kSuperBlock; ++w) {
          const int code = 32 + static_cast<int>(nearest_code(values.x[w], choice, w / kGroupElems));
          const int half = w / 128;
          const int j = w / 32 % 4;
          block.q[64 * half + w % 64] |= static_cast<uint8_t>((code & 15) << (4 * (j / 2)));
          block.high[32 * half + w % 32] |= static_cast<uint8_t>(code >> 4 << (2 * j));
        }
      });
}

}  // namespace packmule::quant
