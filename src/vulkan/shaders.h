// The SPIR-V of every shader, part of the program. CMakeLists.txt lists the files shaders/NAME.comp.
#pragma once

#include <cstdint>
#include <span>

namespace packmule::vulkan {

enum class Shader {
#define PACKMULE_SHADER(name) k_##name,
#include <packmule_shaders/list.inc>
#undef PACKMULE_SHADER
};

[[nodiscard]] std::span<const uint32_t> shader_code(Shader shader);
/// "matvec": for errors.
[[nodiscard]] const char* shader_name(Shader shader);

}  // namespace packmule::vulkan
