#define VOLK_IMPLEMENTATION
#include "vulkan/volk.h"

namespace packmule::vulkan {

const char* result_name(VkResult result) {
  switch (result) {
    case VK_SUCCESS:
      return "VK_SUCCESS";
    case VK_TIMEOUT:
      return "VK_TIMEOUT";
    case VK_ERROR_OUT_OF_HOST_MEMORY:
      return "VK_ERROR_OUT_OF_HOST_MEMORY";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
      return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
    case VK_ERROR_INITIALIZATION_FAILED:
      return "VK_ERROR_INITIALIZATION_FAILED";
    case VK_ERROR_DEVICE_LOST:
      return "VK_ERROR_DEVICE_LOST";
    case VK_ERROR_LAYER_NOT_PRESENT:
      return "VK_ERROR_LAYER_NOT_PRESENT";
    case VK_ERROR_EXTENSION_NOT_PRESENT:
      return "VK_ERROR_EXTENSION_NOT_PRESENT";
    case VK_ERROR_FEATURE_NOT_PRESENT:
      return "VK_ERROR_FEATURE_NOT_PRESENT";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
      return "VK_ERROR_INCOMPATIBLE_DRIVER";
    default:
      return "an unexpected result";
  }
}

Error call_error(std::string_view call, VkResult result) {
  switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
      return {ErrorKind::kOutOfMemory,
              fmt::format("{}: the driver has no memory left ({}); give it less by --device-memory or a "
                          "larger --reserve",
                          call, result_name(result))};
    case VK_ERROR_DEVICE_LOST:
      return {ErrorKind::kIo, fmt::format("{}: the graphics device was lost (reset, removed, or a driver "
                                          "fault); its log says more",
                                          call)};
    default:
      return {ErrorKind::kIo,
              fmt::format("{} failed with {} ({})", call, result_name(result), static_cast<int>(result))};
  }
}

std::string call_name(std::string_view call_text) {
  const size_t begin = call_text.find("vk");
  if (begin == std::string_view::npos) return std::string(call_text);
  return std::string(call_text.substr(begin, call_text.find('(', begin) - begin));
}

}  // namespace packmule::vulkan
