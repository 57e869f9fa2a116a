// What the tests of the ops share: one instance per instruction set, named after it, so that a filter such as
// `*avx512*` picks one; exact buffers; comparison of rows.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace packmule::kernels::testing_support {

/// Vectors are allocated for exactly their size, so AddressSanitizer sees a kernel that goes too far.
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

class IsaTest : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_usable(GetParam()))
      GTEST_SKIP() << isa_name(GetParam())
                   << " is not usable on this processor: its kernels are not tested here";
  }
  [[nodiscard]] static bool is_ref() { return GetParam() == Isa::kRef; }
  [[nodiscard]] static const Kernels& kernels() { return kernels_for(GetParam()); }
  [[nodiscard]] static const Kernels& ref() { return kernels_for(Isa::kRef); }
};

inline std::string isa_test_name(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(isa_name(info.param));
}

/// avxvnni and amx have matmuls of their own, and otherwise the ops of avx2 and avx512.
inline constexpr std::array kIsasWithOps = {Isa::kRef, Isa::kAvx2, Isa::kAvx512};

#define PACKMULE_FOR_EACH_ISA(suite)                                                                      \
  INSTANTIATE_TEST_SUITE_P(Isa, suite,                                                                    \
                           ::testing::ValuesIn(::packmule::kernels::testing_support::kIsasWithOps),       \
                           ::packmule::kernels::testing_support::isa_test_name)

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  Floats normal(int64_t n, float deviation = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, deviation);
    Floats values(static_cast<size_t>(n));
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  Floats uniform(int64_t n, float low, float high) {
    std::uniform_real_distribution<float> distribution(low, high);
    Floats values(static_cast<size_t>(n));
    for (float& value : values) value = distribution(engine_);
    return values;
  }

 private:
  std::mt19937 engine_;
};

/// Each element within `relative` of the expected one, or within `absolute` of it; NaN where NaN is expected.
template <class Expected>
void expect_close(std::span<const float> actual, const std::vector<Expected>& expected, double relative,
                  double absolute) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = actual[i], e = expected[i];
    if (std::isnan(e)) {
      ASSERT_TRUE(std::isnan(a)) << "element " << i << " is " << a << ", expected NaN";
    } else if (a != e) {  // also infinities
      ASSERT_LE(std::abs(a - e), std::max(relative * std::abs(e), absolute))
          << "element " << i << " of " << actual.size() << " is " << a << ", expected " << e;
    }
  }
}

/// The same bits, NaN included.
inline void expect_same_bits(std::span<const float> actual, std::span<const float> expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(float)), 0)
        << "element " << i << " of " << actual.size() << " is " << actual[i] << ", elsewhere " << expected[i];
}

}  // namespace packmule::kernels::testing_support
