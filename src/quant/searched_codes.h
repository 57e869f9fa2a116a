// Codes for blocks of 32 that minimise the weighted squared error: Q4_0, Q4_1, Q5_0 and Q5_1 with importance.
#pragma once

#include "quant/fit_range.h"
#include "quant/fit_scale.h"
#include "quant/importance.h"
#include "quant/plain_codes.h"

namespace packmule::quant {

/// As plain_centred_codes: codes 0 .. 2 * kCentre - 1 for code - kCentre.
template <int kCentre>
[[nodiscard]] ScaledCodes searched_centred_codes(const float* in, const float* importance) {
  const WeightedBlock<kSmallBlock> block(in, importance);
  const NearestInteger nearest{-kCentre, kCentre - 1};
  ScaledCodes codes{};
  codes.d = scale_to_half(fit_scale(block.x, block.w, kSmallBlock, nearest.low, nearest.high, nearest));
  const float inverse = inverse_or_zero(half_to_float(codes.d));
  for (int i = 0; i < kSmallBlock; ++i)
    codes.code[i] = static_cast<uint8_t>(kCentre + static_cast<int>(nearest(block.x[i] * inverse)));
  return codes;
}

/// As plain_ranged_codes: codes 0 .. kLargest.
template <int kLargest>
[[nodiscard]] ScaledCodes searched_ranged_codes(const float* in, const float* importance) {
  const WeightedBlock<kSmallBlock> block(in, importance);
  const NearestInteger nearest{0, kLargest};
  const RangeFit fit = fit_range(block.x, block.w, kLargest, BaseSign::kAny);
  ScaledCodes codes{.d = scale_to_half(fit.scale), .m = scale_to_half(fit.base), .code = {}};
  const float inverse = inverse_or_zero(half_to_float(codes.d));
  const float base = half_to_float(codes.m);
  for (int i = 0; i < kSmallBlock; ++i)
    codes.code[i] = static_cast<uint8_t>(nearest((block.x[i] - base) * inverse));
  return codes;
}

}  // namespace packmule::quant
