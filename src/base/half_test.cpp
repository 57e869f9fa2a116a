#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace packmule {
namespace {

TEST(Half, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float value = half_to_float(static_cast<uint16_t>(h));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
    } else {
      EXPECT_EQ(float_to_half(value), h);
    }
  }
}

TEST(Half, RoundsToNearestEvenBetweenEveryPairOfNeighbours) {
  for (uint32_t h = 0; h < 0x7bff; ++h) {  // both finite
    const float low = half_to_float(static_cast<uint16_t>(h));
    const float high = half_to_float(static_cast<uint16_t>(h + 1));
    const float middle = low + (high - low) / 2;  // exact: one more bit than float16 has
    EXPECT_EQ(float_to_half(middle), h + (h & 1));
    EXPECT_EQ(float_to_half(std::nextafter(middle, 0.0f)), h);
    EXPECT_EQ(float_to_half(std::nextafter(middle, 1e9f)), h + 1);
    EXPECT_EQ(float_to_half(-middle), (h + (h & 1)) | 0x8000u);
  }
  EXPECT_EQ(float_to_half(65519.9f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
}

TEST(Bf16, EveryValueSurvivesTheRoundTripAndTiesGoToEven) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const float value = bf16_to_float(static_cast<uint16_t>(b));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value))));
      continue;
    }
    EXPECT_EQ(float_to_bf16(value), b);
    if (std::isinf(value)) continue;
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>((b << 16) | 0x8000u)), b + (b & 1));
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>((b << 16) | 0x7fffu)), b);
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>((b << 16) | 0x8001u)), b + 1);
  }
}

}  // namespace
}  // namespace packmule
