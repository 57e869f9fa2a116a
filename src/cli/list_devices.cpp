#include "cli/list_devices.h"

#include <fmt/format.h>

#include <algorithm>

#include "vulkan/device_info.h"

namespace packmule::cli {

bool asks_for_devices(std::span<const std::string> args) {
  const auto end = std::ranges::find(args, "--");
  return std::find(args.begin(), end, "--list-devices") != end;
}

std::string device_list() {
  const auto devices = vulkan::list_devices();
  if (!devices)
    return fmt::format("No Vulkan device: {}. packmule computes on the CPU.\n", devices.error().message);
  std::string text;
  for (const vulkan::DeviceInfo& device : *devices) text += vulkan::describe(device);
  return text;
}

}  // namespace packmule::cli
