// The grids of the IQ formats as the shaders read them (shaders/blocks.glsl).
#pragma once

#include <cstdint>
#include <vector>

namespace packmule::vulkan {

/// All grids one after the other as 32-bit words. Those of IQ1 hold 8 * value + 8 instead of the values -1,
/// 0, 1: the shift of an eighth is then a whole number too.
[[nodiscard]] std::vector<uint32_t> grid_tables();

}  // namespace packmule::vulkan
