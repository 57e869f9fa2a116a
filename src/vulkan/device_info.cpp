#include "vulkan/device_info.h"

#include <algorithm>
#include <cctype>

#include "base/utf8.h"
#include "vulkan/instance.h"

namespace packmule::vulkan {
namespace {

std::string gib(int64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30));
}

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string names_of(std::span<const DeviceInfo> devices) {
  std::string names;
  for (const DeviceInfo& device : devices) names += (names.empty() ? "" : ", ") + device.id;
  return names.empty() ? "none" : names;
}

}  // namespace

std::string_view device_type_name(DeviceType type) {
  switch (type) {
    case DeviceType::kDiscrete:
      return "discrete GPU";
    case DeviceType::kIntegrated:
      return "integrated GPU";
    case DeviceType::kVirtual:
      return "virtual GPU";
    case DeviceType::kCpu:
      return "processor";
    case DeviceType::kOther:
      break;
  }
  return "other";
}

Result<std::vector<DeviceInfo>> list_devices() {
  PACKMULE_TRY(const auto instance, Instance::create());
  return instance->devices();
}

Result<const DeviceInfo*> find_device(std::span<const DeviceInfo> devices, std::string_view name) {
  for (size_t i = 0; i < devices.size(); ++i) {
    const DeviceInfo& device = devices[i];
    if (!same_name(name, device.id) && !same_name(name, fmt::format("GPU{}", i))) continue;
    if (!device.usable())
      return fail(ErrorKind::kUnsupported, "{} ({}) cannot be used: {}", device.id, device.name,
                  device.unusable);
    return &device;
  }
  return fail(ErrorKind::kInvalidArgument, "there is no device '{}'; there is: {}", printable(name, 40),
              names_of(devices));
}

Result<std::vector<const DeviceInfo*>> select_devices(std::span<const DeviceInfo> devices,
                                                      std::string_view names) {
  std::vector<const DeviceInfo*> selected;
  if (same_name(names, "none")) return selected;
  if (names.empty()) {
    for (const DeviceInfo& device : devices)
      if (device.usable() && device.type != DeviceType::kCpu) selected.push_back(&device);
    return selected;
  }
  while (true) {
    const size_t comma = names.find(',');
    PACKMULE_TRY(const DeviceInfo* device, find_device(devices, names.substr(0, comma)));
    if (std::ranges::find(selected, device) != selected.end())
      return fail(ErrorKind::kInvalidArgument, "device {} is named twice", device->id);
    selected.push_back(device);
    if (comma == std::string_view::npos) return selected;
    names.remove_prefix(comma + 1);
  }
}

std::string describe(const DeviceInfo& device) {
  const auto yes_no = [](bool yes) { return yes ? "yes" : "no"; };
  std::string text = fmt::format("{}: {} ({}), {}, Vulkan {}.{}\n", device.id, device.name,
                                 device_type_name(device.type), device.driver.empty() ? "?" : device.driver,
                                 (device.api_version >> 22) & 0x7f, (device.api_version >> 12) & 0x3ff);
  if (!device.usable()) return text + fmt::format("  cannot be used: {}\n", device.unusable);
  for (size_t i = 0; i < device.heaps.size(); ++i) {
    const MemoryHeap& heap = device.heaps[i];
    text +=
        fmt::format("  memory {}: {}{}", i, gib(heap.size_bytes), heap.device_local ? ", device" : ", host");
    if (heap.budget_bytes) text += fmt::format(", {} left to this process", gib(heap.available_bytes()));
    if (static_cast<int>(i) == device.main_heap) text += ", weights go here";
    text += '\n';
  }
  if (!device.has_memory_budget)
    text += "  memory budget: not told by the driver (no VK_EXT_memory_budget)\n";
  text += fmt::format("  subgroups of {}", device.subgroup_size);
  if (device.min_subgroup_size != device.max_subgroup_size)
    text += fmt::format(" ({} to {})", device.min_subgroup_size, device.max_subgroup_size);
  text += fmt::format("; int8 dot product: {}; cooperative matrix: {}; fp16: {}; 8/16-bit storage: {}/{}\n",
                      !device.integer_dot              ? "no"
                      : device.integer_dot_accelerated ? "yes"
                                                       : "emulated",
                      yes_no(device.cooperative_matrix), yes_no(device.float16), yes_no(device.storage_8bit),
                      yes_no(device.storage_16bit));
  return text;
}

}  // namespace packmule::vulkan
