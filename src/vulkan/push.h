// Small helpers of the files that fill push constants.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vulkan/commands.h"

namespace packmule::vulkan {

/// Sizes come as int64_t and are 32-bit in shaders; what is addressed lies within one arena of at most 1 GiB.
[[nodiscard]] inline uint32_t u32(int64_t value) {
  return static_cast<uint32_t>(value);
}
[[nodiscard]] inline uint32_t groups_of(int64_t n, int64_t per_group) {
  return static_cast<uint32_t>((n + per_group - 1) / per_group);
}

/// Devices promise 65,535 groups in x: more (rows of the output matrix) go on in z.
struct RowGroups {
  explicit RowGroups(uint32_t n) : x(std::min(n, 65535u)), z(n == 0 ? 0 : (n + x - 1) / x) {}
  uint32_t x, z;
};

}  // namespace packmule::vulkan
