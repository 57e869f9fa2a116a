// What Vulkan says about the graphics devices of this machine, in plain structs: for `--list-devices`, the
// log and the planner. Nothing here needs a Vulkan header.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace packmule::vulkan {

enum class DeviceType { kDiscrete, kIntegrated, kVirtual, kOther, kCpu };
[[nodiscard]] std::string_view device_type_name(DeviceType type);

struct MemoryHeap {
  int64_t size_bytes = 0;
  bool device_local = false;
  // With VK_EXT_memory_budget: what the driver lets this process have of the heap, and what it has.
  std::optional<int64_t> budget_bytes;
  int64_t usage_bytes = 0;

  /// What this process may still take: by the driver's budget, or the heap's size where it has none.
  [[nodiscard]] int64_t available_bytes() const {
    return budget_bytes ? std::max<int64_t>(0, *budget_bytes - usage_bytes) : size_bytes;
  }
};

struct DeviceInfo {
  std::string id;  // "Vulkan0": what --device and -ot call it
  std::string name;
  DeviceType type = DeviceType::kOther;
  std::string driver;  // "radv Mesa 23.1"
  uint32_t api_version = 0;
  int index = 0;         // in the loader's order
  std::string unusable;  // why packmule cannot compute on it; empty when it can

  std::vector<MemoryHeap> heaps;
  int main_heap = 0;  // where weights go: the largest device-local one
  bool has_memory_budget = false;

  // What the shaders may be built on.
  uint32_t subgroup_size = 0;  // the driver's choice where it is not asked
  uint32_t min_subgroup_size = 0, max_subgroup_size = 0;
  bool subgroup_arithmetic = false;
  bool integer_dot = false;              // packed 4 x int8 products exist (Vulkan 1.3 or the KHR extension)
  bool integer_dot_accelerated = false;  // and are faster than what they replace
  bool cooperative_matrix = false;
  bool float16 = false;
  bool int8 = false;
  bool storage_8bit = false, storage_16bit = false;

  int64_t max_allocation_bytes = 0;
  int64_t max_buffer_bytes = 0;         // of a VkBuffer; what addresses reach
  int64_t max_storage_range_bytes = 0;  // of a descriptor: packmule has none, so this bounds nothing
  int64_t max_shared_bytes = 0;
  uint32_t max_workgroup = 0;
  std::array<uint8_t, 16> pipeline_cache_uuid{};

  [[nodiscard]] bool usable() const { return unusable.empty(); }
  [[nodiscard]] const MemoryHeap& memory() const { return heaps[static_cast<size_t>(main_heap)]; }
};

/// All Vulkan devices, discrete ones first and processors that pose as devices (lavapipe) last, called
/// Vulkan0, Vulkan1 ... in this order. kUnsupported, with the reason in a line, when there is no loader or no
/// driver.
[[nodiscard]] Result<std::vector<DeviceInfo>> list_devices();

/// The device a user means by "Vulkan0" or "GPU0" (any case). An error names what there is, or why that one
/// cannot be used.
[[nodiscard]] Result<const DeviceInfo*> find_device(std::span<const DeviceInfo> devices,
                                                    std::string_view name);

/// The devices of a comma-separated list; none for "none"; for "" every usable device that is not a
/// processor.
[[nodiscard]] Result<std::vector<const DeviceInfo*>> select_devices(std::span<const DeviceInfo> devices,
                                                                    std::string_view names);

/// Several lines for a person: name, driver, memory, chosen paths.
[[nodiscard]] std::string describe(const DeviceInfo& device);

}  // namespace packmule::vulkan
