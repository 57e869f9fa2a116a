// What trials of speed share: numbers to compute with, and the middle of what was found.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace packmule::calibration {

/// Ordinary numbers in every format: no denormals, no infinities.
inline void fill_with_numbers(std::span<uint64_t> words) {
  uint64_t x = 0x9e3779b97f4a7c15u;
  for (uint64_t& word : words) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    word = (x & 0x0f0f0f0f0f0f0f0fu) | 0x3030303030303030u;
  }
}

/// Of at least one value.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace packmule::calibration
