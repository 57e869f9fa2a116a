// The scale d of a group of values that minimises sum w (x - d q)^2, each q being the nearest code's value.
//
// For given codes the best scale is a quotient of sums, for a given scale the best codes are the nearest
// ones; doing both in turn never makes the error larger (Lloyd, "Least squares quantization in PCM", 1982)
// but stops at the first valley, so it is started from many scales and the deepest valley is kept.
#pragma once

#include <cmath>
#include <initializer_list>

#include "quant/lanes.h"

namespace packmule::quant {

/// low < 0 < high are the extreme values a code can stand for; nearest as in lanes.h.
/// 0 when no scale is better than none.
template <class Nearest>
[[nodiscard]] float fit_scale(const float* x, const float* w, int n, float low, float high, Nearest nearest) {
  constexpr int kRounds = 2;  // more gain less than 0.1 %
  // The starts let the extreme value fall on 0.55 .. 1.3 of the outermost code: below 1 for finer codes that
  // are not all used, above it to clip an outlier for the sake of the others.
  constexpr float kFirst = 0.55f;
  constexpr float kStep = 0.05f;

  float extreme = 0;
  for (int i = 0; i < n; ++i)
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  if (extreme == 0.0f) return 0;

  float best_scale = 0;
  float best_gain = 0;
  for (const float outermost : {low, high}) {
    Lanes inverse = make_lanes(
        [&](int lane) { return outermost * (kFirst + kStep * static_cast<float>(lane)) / extreme; });
    for (int round = 0; round < kRounds; ++round) {
      const ScaleSums sums = sum_scales(x, w, n, inverse, nearest);
      for (int lane = 0; lane < kLanes; ++lane) {
        const float xq = sums.xq.get(lane);
        const float qq = sums.qq.get(lane);
        if (!(qq > 0) || xq == 0.0f) continue;
        inverse.set(lane, qq / xq);
        const float gain = xq * (xq / qq);  // what the scale takes off sum w x^2
        if (gain > best_gain) {
          best_gain = gain;
          best_scale = xq / qq;
        }
      }
    }
  }
  return best_scale;
}

}  // namespace packmule::quant
