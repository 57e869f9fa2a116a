// e^x from additions and multiplications alone.
//
// The C library's exp may differ in the last bit from one system to the next, which is enough to change a
// drawn token. This one is exact to about 1e-15 and has the same bits wherever doubles are IEEE 754 (the
// build forbids fused multiply-adds).
#pragma once

#include <bit>
#include <cstdint>

namespace packmule::sampling {

/// e^x for x <= 0, -inf included; 0 below -708 (where results would be denormal).
inline double portable_exp(double x) {
  if (!(x >= -708.0)) return 0.0;
  // x = k ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts so that the subtraction is exact.
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  const auto k = static_cast<int64_t>(x * kLog2E - 0.5);  // toward zero: nearest, as x <= 0
  const auto k_double = static_cast<double>(k);
  const double r = x - k_double * kLn2High - k_double * kLn2Low;
  // Taylor series to r^13: the next term is below 5e-18 relative.
  double sum = 1.0 / 6227020800.0;
  for (const double coefficient :
       {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0,
        1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0})
    sum = sum * r + coefficient;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(k + 1023) << 52);
}

}  // namespace packmule::sampling
