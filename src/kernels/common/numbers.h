// Small functions of integers.
#pragma once

#include <cstdint>

namespace packmule::kernels {
namespace {

constexpr int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/// Of a power of two.
constexpr int log2_of(int n) {
  return n <= 1 ? 0 : 1 + log2_of(n / 2);
}

}  // namespace
}  // namespace packmule::kernels
