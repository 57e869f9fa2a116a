// Clean copies of a block's values and weights, for the quantizers that search.
//
// Without importance every weight counts the same: the error of a dot product with activations of which
// nothing is known is proportional to the plain sum of squares. With importance (the mean square of the
// activation of each column) it is proportional to the sum weighted by it. A share of the mean is added to
// every weight, because the figures come from a finite sample: a column that was silent in it must not get
// arbitrary codes.
#pragma once

#include <algorithm>
#include <cmath>

namespace packmule::quant {

template <int N>
struct WeightedBlock {
  float x[N];  // finite
  float w[N];  // finite, not negative, mean about 1

  WeightedBlock(const float* in, const float* importance) {
    // Beyond all that any format with a float16 scale holds (65504 * 127 * 32), yet its square is finite.
    constexpr float kLargest = 1e9f;
    for (int i = 0; i < N; ++i) x[i] = std::isnan(in[i]) ? 0.0f : std::clamp(in[i], -kLargest, kLargest);

    std::fill_n(w, N, 1.0f);
    if (importance == nullptr) return;
    constexpr float kShareOfMean = 0.6f;
    constexpr float kLargestWeight = 1e30f;
    float mean = 0;
    for (int i = 0; i < N; ++i) {
      w[i] = importance[i] > 0 ? std::min(importance[i], kLargestWeight) : 0.0f;  // 0 for NaN
      mean += w[i] / static_cast<float>(N);
    }
    for (int i = 0; i < N; ++i) w[i] = mean > 0 ? (w[i] / mean + kShareOfMean) / (1.0f + kShareOfMean) : 1.0f;
  }
};

}  // namespace packmule::quant
