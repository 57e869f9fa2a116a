#include "quant/fit_range.h"

#include <algorithm>
#include <limits>

#include "quant/lanes.h"

namespace packmule::quant {
namespace {

// Sums over the weights for each lane, with q the code of each value.
struct RangeSums {
  Lanes q;
  Lanes qq;
  Lanes xq;
};

RangeSums sum_ranges(const float* x, const float* w, const Lanes& inverse, const Lanes& base,
                     NearestInteger nearest) {
  RangeSums sums{};
  for (int i = 0; i < kSmallBlock; ++i) {
    for (int quad = 0; quad < kQuads; ++quad) {
      const Float4 q = nearest((x[i] - base.quad[quad]) * inverse.quad[quad]);
      const Float4 wq = w[i] * q;
      sums.q.quad[quad] += wq;
      sums.qq.quad[quad] += wq * q;
      sums.xq.quad[quad] += wq * x[i];
    }
  }
  return sums;
}

}  // namespace

RangeFit fit_range(const float* values, const float* w, int largest, BaseSign sign) {
  constexpr int kRounds = 6;
  // The starts cut this many code steps off either end of the range: clipping the extremes a little is often
  // better than coarser codes for all.
  constexpr int kCuts = 4;
  static_assert(kCuts * kCuts == kLanes);
  constexpr float kCutCodes[kCuts] = {-0.4f, 0.2f, 0.8f, 1.6f};

  const auto [low_at, high_at] = std::minmax_element(values, values + kSmallBlock);
  // All below is relative to `origin`, so that a small range far from zero keeps its digits.
  const float origin = sign == BaseSign::kNotPositive ? std::min(0.0f, *low_at) : *low_at;
  const float range = *high_at - origin;
  constexpr float kNoLimit = std::numeric_limits<float>::infinity();
  const float least_base = sign == BaseSign::kNotNegative ? -origin : -kNoLimit;
  const float largest_base = sign == BaseSign::kNotPositive ? -origin : kNoLimit;
  const auto hold = [=](float base) { return std::clamp(base, least_base, largest_base); };
  if (!(range > 0)) return {0, origin + hold(0)};
  float x[kSmallBlock];
  for (int i = 0; i < kSmallBlock; ++i) x[i] = values[i] - origin;

  float sum_w = 0;
  float sum_x = 0;
  for (int i = 0; i < kSmallBlock; ++i) {
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }

  const float step = range / static_cast<float>(largest);
  Lanes base = make_lanes([&](int lane) { return hold(kCutCodes[lane / kCuts] * step); });
  Lanes inverse = make_lanes([&](int lane) {
    const float high = range - kCutCodes[lane % kCuts] * step;
    return static_cast<float>(largest) / (high - base.get(lane));
  });

  RangeFit best{0, hold(sum_x / sum_w)};
  float best_gain = (2 * sum_x - best.base * sum_w) * best.base;  // what the fit takes off sum w x^2
  const NearestInteger nearest{0, static_cast<float>(largest)};
  for (int round = 0; round < kRounds; ++round) {
    const RangeSums sums = sum_ranges(x, w, inverse, base, nearest);
    for (int lane = 0; lane < kLanes; ++lane) {
      const float q = sums.q.get(lane);
      const float qq = sums.qq.get(lane);
      const float xq = sums.xq.get(lane);
      if (!(qq > 0)) continue;
      // The best line, or the best one through a base that is given: by the limits, or, where all codes are
      // equal and so any base would do, by what it was.
      const float determinant = sum_w * qq - q * q;
      const bool is_line = determinant > 1e-6f * sum_w * qq;
      const float free_base = is_line ? (qq * sum_x - q * xq) / determinant : base.get(lane);
      const float m = hold(free_base);
      const float d = is_line && m == free_base ? (sum_w * xq - sum_x * q) / determinant : (xq - m * q) / qq;
      if (!(d > 0)) continue;
      const float gain = 2 * (d * xq + m * sum_x) - d * d * qq - 2 * d * m * q - m * m * sum_w;
      if (gain > best_gain) {
        best_gain = gain;
        best = {d, m};
      }
      inverse.set(lane, 1.0f / d);
      base.set(lane, m);
    }
  }
  best.base += origin;
  return best;
}

}  // namespace packmule::quant
