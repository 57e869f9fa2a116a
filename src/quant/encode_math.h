// What the encoders share: guards against values that no integer or float16 holds, and extremes of a block.
//
// Blocks hold finite numbers only. An input that is NaN or infinite, or a scale beyond float16, gives a
// block of some finite values (the largest possible ones where the input is too large), never undefined
// behaviour.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/half.h"
#include "quant/block.h"

namespace packmule::quant {

inline constexpr float kLargestHalf = 65504.0f;

/// Nearest float16, the largest finite one for what is larger; 0 for NaN.
[[nodiscard]] inline HalfBits scale_to_half(float scale) {
  if (std::isnan(scale)) return 0;
  return float_to_half(std::clamp(scale, -kLargestHalf, kLargestHalf));
}

/// 1 / scale, or 0 for 0.
[[nodiscard]] inline float inverse_or_zero(float scale) {
  return scale != 0.0f ? 1.0f / scale : 0.0f;
}

/// The integer part of value, held to [0, largest]. NaN gives largest.
[[nodiscard]] inline uint8_t truncate_to_code(float value, int largest) {
  const float limit = static_cast<float>(largest);
  const float below = value < limit ? value : limit;
  return static_cast<uint8_t>(static_cast<int>(below > 0.0f ? below : 0.0f));
}

struct Range {
  float low;
  float high;
};

/// Extremes of kSmallBlock values and of the two in `start`; NaN is passed over.
[[nodiscard]] inline Range range_of_block(const float* x, Range start) {
  constexpr int kWide = 8;  // independent chains, so that the compiler may use vector instructions
  float low[kWide];
  float high[kWide];
  for (int j = 0; j < kWide; ++j) {
    low[j] = start.low;
    high[j] = start.high;
  }
  for (int i = 0; i < kSmallBlock; i += kWide) {
    for (int j = 0; j < kWide; ++j) {
      low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
      high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
    }
  }
  return {*std::min_element(low, low + kWide), *std::max_element(high, high + kWide)};
}

/// The value of largest magnitude among kSmallBlock values, with its sign; the first one if there are two.
[[nodiscard]] inline float extreme_of_block(const float* x) {
  const Range range = range_of_block(x, {0.0f, 0.0f});
  if (range.high > -range.low) return range.high;
  if (range.high < -range.low) return range.low;
  for (int i = 0; i < kSmallBlock; ++i)
    if (std::abs(x[i]) == range.high) return x[i];
  return 0.0f;  // all NaN
}

}  // namespace packmule::quant
