#include "vulkan/shaders.h"

namespace packmule::vulkan {
namespace {

struct Code {
  const char* name;
  std::span<const uint32_t> words;
};

// NAME.inc: the words of NAME.comp, written by glslc.
#include <packmule_shaders/words.inc>

const Code kCodes[] = {
#define PACKMULE_SHADER(name) {#name, kWords_##name},
#include <packmule_shaders/list.inc>
#undef PACKMULE_SHADER
};

}  // namespace

std::span<const uint32_t> shader_code(Shader shader) {
  return kCodes[static_cast<size_t>(shader)].words;
}

const char* shader_name(Shader shader) {
  return kCodes[static_cast<size_t>(shader)].name;
}

}  // namespace packmule::vulkan
