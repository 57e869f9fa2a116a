// The connection to the Vulkan loader, and the physical devices it knows.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vulkan/device_info.h"
#include "vulkan/volk.h"

namespace packmule::vulkan {

struct InstanceOptions {
  /// Check every call by VK_LAYER_KHRONOS_validation; for tests. create() fails where the layer is missing.
  bool validation = false;
};

class Instance {
 public:
  /// kUnsupported when there is no loader or no driver on this machine.
  static Result<std::shared_ptr<Instance>> create(InstanceOptions options = {});
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  /// As list_devices(); figures of memory are those of this moment.
  [[nodiscard]] Result<std::vector<DeviceInfo>> devices() const;
  [[nodiscard]] Result<VkPhysicalDevice> physical_device(const DeviceInfo& info) const;
  [[nodiscard]] VkInstance handle() const { return instance_; }

  /// What the validation layer has said since the last call; empty without it.
  [[nodiscard]] std::vector<std::string> take_messages();

 private:
  struct Messages;
  Instance();
  VkInstance instance_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  std::unique_ptr<Messages> messages_;
};

/// Sizes, budgets and usages of all heaps, as they are now.
[[nodiscard]] std::vector<MemoryHeap> read_heaps(VkPhysicalDevice device, bool has_memory_budget);
[[nodiscard]] std::vector<VkQueueFamilyProperties> read_queue_families(VkPhysicalDevice device);

}  // namespace packmule::vulkan
