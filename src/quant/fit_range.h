// The scale d and base m of a group of values that minimise sum w (x - d q - m)^2, q being integers.
//
// As fit_scale.h, with a line instead of a quotient: for given codes the best (d, m) is a weighted linear
// regression of the values on the codes.
#pragma once

#include "quant/block.h"

namespace packmule::quant {

enum class BaseSign { kAny, kNotPositive, kNotNegative };

struct RangeFit {
  float scale;  // d >= 0
  float base;   // m
};

/// For kSmallBlock values; codes are 0 .. largest.
[[nodiscard]] RangeFit fit_range(const float* x, const float* w, int largest, BaseSign sign);

}  // namespace packmule::quant
