// The one way to Vulkan's functions: volk finds the loader at run time, so the program starts without one.
#pragma once

#include <volk.h>

#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule::vulkan {

/// "VK_ERROR_DEVICE_LOST": what a VkResult is called.
[[nodiscard]] const char* result_name(VkResult result);

/// An Error for a call that did not succeed: out of memory, a lost device, or the call's own name and result.
[[nodiscard]] Error call_error(std::string_view call, VkResult result);

}  // namespace packmule::vulkan

/// Returns the error of a Vulkan call from the enclosing function.
#define PACKMULE_VK(call)                                                                    \
  do {                                                                                       \
    if (const VkResult vk_result_ = (call); vk_result_ != VK_SUCCESS)                        \
      return ::tl::unexpected<::packmule::Error>(                                            \
          ::packmule::vulkan::call_error(::packmule::vulkan::call_name(#call), vk_result_)); \
  } while (false)

namespace packmule::vulkan {
/// "vkCreateBuffer" from the text of a call ("device.fn().vkCreateBuffer(...)").
[[nodiscard]] std::string call_name(std::string_view call_text);
}  // namespace packmule::vulkan
