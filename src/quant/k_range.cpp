#include "quant/k_range.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/encode_math.h"
#include "quant/fit_range.h"
#include "quant/importance.h"
#include "quant/lanes.h"

namespace packmule::quant {
namespace {

constexpr int kGroupElems = kSuperBlock / kScaleGroups;
constexpr int kLargestStored = 63;

using Block = WeightedBlock<kSuperBlock>;

// The two numbers that the eight groups share, as a reader of the file sees them.
struct Shared {
  float d;
  float dmin;

  [[nodiscard]] Shared stored() const {
    return {half_to_float(scale_to_half(d)), half_to_float(scale_to_half(dmin))};
  }
};

struct Choice {
  Shared shared{};
  KScale group[kScaleGroups]{};
  float error = std::numeric_limits<float>::infinity();
};

// The first of four stored values around exact, all in 0..63.
int first_of_four(float exact, float unit) {
  const float quotient = unit != 0.0f ? exact / unit : 0.0f;
  return static_cast<int>(std::clamp(quotient - 1.0f, 0.0f, static_cast<float>(kLargestStored - 3)));
}

// The best scale and minimum of one group, among the sixteen pairs around the exact ones.
KScale choose_group(const float* x, const float* w, const Shared& shared, const RangeFit& exact,
                    NearestInteger nearest, float& error) {
  const int first_scale = first_of_four(exact.scale, shared.d);
  const int first_minimum = first_of_four(-exact.base, shared.dmin);
  const Lanes scale =
      make_lanes([&](int lane) { return shared.d * static_cast<float>(first_scale + lane / 4); });
  const Lanes base =
      make_lanes([&](int lane) { return -shared.dmin * static_cast<float>(first_minimum + lane % 4); });
  const Lanes errors = sum_errors(x, w, kGroupElems, scale, base, nearest);
  const int best = least_lane(errors);
  error += errors.get(best);
  return {static_cast<uint8_t>(first_scale + best / 4), static_cast<uint8_t>(first_minimum + best % 4)};
}

uint8_t code_of(float x, const Shared& shared, const KScale& group, NearestInteger nearest) {
  const float scale = shared.d * static_cast<float>(group.scale);
  const float base = -shared.dmin * static_cast<float>(group.minimum);
  return static_cast<uint8_t>(nearest((x - base) * inverse_or_zero(scale)));
}

// The d and dmin that fit the block best with the choice's groups and its codes: regression of x on
// (scale * code) and (-minimum). What is undetermined stays as it is.
Shared refit(const Block& block, const Choice& choice, NearestInteger nearest) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (int i = 0; i < kSuperBlock; ++i) {
    const KScale& group = choice.group[i / kGroupElems];
    const double a = group.scale * code_of(block.x[i], choice.shared, group, nearest);
    const double b = -group.minimum;
    const double w = block.w[i];
    const double x = block.x[i];
    aa += w * a * a;
    ab += w * a * b;
    bb += w * b * b;
    xa += w * x * a;
    xb += w * x * b;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb)
    return {static_cast<float>((bb * xa - ab * xb) / determinant),
            static_cast<float>((aa * xb - ab * xa) / determinant)};
  if (bb == 0 && aa > 0) return {static_cast<float>(xa / aa), choice.shared.dmin};
  return choice.shared;
}

}  // namespace

KRangeCodes fit_k_range(const float* in, const float* importance, int largest) {
  constexpr int kRounds = 4;  // 0.5 % better than one
  const Block block(in, importance);
  const NearestInteger nearest{0, static_cast<float>(largest)};

  // A block of positive values gets a negative dmin, which adds instead of taking away.
  const bool all_positive = *std::min_element(block.x, block.x + kSuperBlock) > 0;
  const BaseSign sign = all_positive ? BaseSign::kNotNegative : BaseSign::kNotPositive;
  RangeFit exact[kScaleGroups];
  float largest_scale = 0;
  float largest_base = 0;
  for (int g = 0; g < kScaleGroups; ++g) {
    exact[g] = fit_range(block.x + g * kGroupElems, block.w + g * kGroupElems, largest, sign);
    largest_scale = std::max(largest_scale, exact[g].scale);
    largest_base = std::max(largest_base, std::abs(exact[g].base));
  }

  Shared shared{largest_scale / kLargestStored,
                (all_positive ? -largest_base : largest_base) / kLargestStored};
  Choice best;
  for (int round = 0; round < kRounds; ++round) {
    Choice choice;
    choice.shared = shared.stored();
    choice.error = 0;
    for (int g = 0; g < kScaleGroups; ++g)
      choice.group[g] = choose_group(block.x + g * kGroupElems, block.w + g * kGroupElems, choice.shared,
                                     exact[g], nearest, choice.error);
    if (!(choice.error < best.error)) break;
    best = choice;
    shared = refit(block, choice, nearest);
  }

  KRangeCodes codes{.d = scale_to_half(best.shared.d), .dmin = scale_to_half(best.shared.dmin)};
  std::copy_n(best.group, kScaleGroups, codes.group);
  for (int i = 0; i < kSuperBlock; ++i)
    codes.code[i] = code_of(block.x[i], best.shared, best.group[i / kGroupElems], nearest);
  return codes;
}

}  // namespace packmule::quant
