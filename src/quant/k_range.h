// The quantizer of Q4_K and Q5_K: codes, 6-bit scales and minima of 256 weights.
#pragma once

#include "quant/block.h"
#include "quant/k_scales.h"

namespace packmule::quant {

/// weight = d * scale[g] * code - dmin * minimum[g], g = index / 32.
struct KRangeCodes {
  HalfBits d;
  HalfBits dmin;
  KScale group[kScaleGroups];
  uint8_t code[kSuperBlock];
};

/// Codes are 0 .. largest. importance: one weight per value, or null.
[[nodiscard]] KRangeCodes fit_k_range(const float* in, const float* importance, int largest);

}  // namespace packmule::quant
