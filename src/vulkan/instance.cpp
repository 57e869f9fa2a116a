#include "vulkan/instance.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

namespace packmule::vulkan {

// What the layer says may come from any thread that calls Vulkan.
struct Instance::Messages {
  std::mutex mutex;
  std::vector<std::string> texts;

  static VKAPI_ATTR VkBool32 VKAPI_CALL note(VkDebugUtilsMessageSeverityFlagBitsEXT,
                                             VkDebugUtilsMessageTypeFlagsEXT,
                                             const VkDebugUtilsMessengerCallbackDataEXT* data, void* user) {
    auto* messages = static_cast<Messages*>(user);
    const std::lock_guard lock(messages->mutex);
    messages->texts.emplace_back(data->pMessage);
    return VK_FALSE;
  }
};

namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";

bool has_extension(const std::vector<VkExtensionProperties>& extensions, const char* name) {
  return std::ranges::any_of(extensions,
                             [name](const auto& e) { return std::strcmp(e.extensionName, name) == 0; });
}

DeviceType type_of(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return DeviceType::kDiscrete;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return DeviceType::kIntegrated;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return DeviceType::kVirtual;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return DeviceType::kCpu;
    default:
      return DeviceType::kOther;
  }
}

/// The largest heap that a device-local memory type lies in. (The first would be a window of 256 MB on some.)
int choose_heap(VkPhysicalDevice device, const std::vector<MemoryHeap>& heaps) {
  VkPhysicalDeviceMemoryProperties memory;
  vkGetPhysicalDeviceMemoryProperties(device, &memory);
  int best = -1;
  for (uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
    if ((memory.memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) == 0) continue;
    const auto heap = static_cast<int>(memory.memoryTypes[i].heapIndex);
    if (best < 0 || heaps[static_cast<size_t>(heap)].size_bytes > heaps[static_cast<size_t>(best)].size_bytes)
      best = heap;
  }
  return best;
}

std::string why_unusable(const DeviceInfo& info, const VkPhysicalDeviceVulkan12Features& features,
                         bool has_compute_queue) {
  if (info.api_version < VK_API_VERSION_1_2)
    return fmt::format("its driver speaks Vulkan {}.{}; 1.2 is needed",
                       VK_API_VERSION_MAJOR(info.api_version), VK_API_VERSION_MINOR(info.api_version));
  if (features.bufferDeviceAddress == VK_FALSE) return "its driver has no buffer device addresses";
  if (features.timelineSemaphore == VK_FALSE) return "its driver has no timeline semaphores";
  if (!info.subgroup_arithmetic) return "its driver has no subgroup arithmetic in compute shaders";
  if (!has_compute_queue) return "it has no queue for compute";
  if (info.main_heap < 0) return "it has no device-local memory";
  if (info.max_shared_bytes < 32 * 1024 || info.max_workgroup < 256)
    return fmt::format(
        "its workgroups are too small: {} invocations with {} bytes, 256 with 32768 are needed",
        info.max_workgroup, info.max_shared_bytes);
  return {};
}

DeviceInfo inspect(VkPhysicalDevice device, int index) {
  uint32_t n_extensions = 0;
  vkEnumerateDeviceExtensionProperties(device, nullptr, &n_extensions, nullptr);
  std::vector<VkExtensionProperties> extensions(n_extensions);
  vkEnumerateDeviceExtensionProperties(device, nullptr, &n_extensions, extensions.data());

  VkPhysicalDeviceProperties basic;
  vkGetPhysicalDeviceProperties(device, &basic);
  DeviceInfo info;
  info.index = index;
  info.name = basic.deviceName;
  info.type = type_of(basic.deviceType);
  info.api_version = basic.apiVersion;
  info.has_memory_budget = has_extension(extensions, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
  info.heaps = read_heaps(device, info.has_memory_budget);
  info.main_heap = choose_heap(device, info.heaps);
  std::memcpy(info.pipeline_cache_uuid.data(), basic.pipelineCacheUUID, VK_UUID_SIZE);
  if (basic.apiVersion < VK_API_VERSION_1_2) {
    info.unusable = why_unusable(info, {}, false);
    info.main_heap = std::max(info.main_heap, 0);
    return info;
  }

  // Structs of 1.3 may only be asked of a driver that knows them.
  const bool has_1_3 = basic.apiVersion >= VK_API_VERSION_1_3;
  VkPhysicalDeviceVulkan13Properties properties13{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
  VkPhysicalDeviceVulkan12Properties properties12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES};
  VkPhysicalDeviceVulkan11Properties properties11{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
  VkPhysicalDeviceProperties2 properties{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &properties11};
  properties11.pNext = &properties12;
  if (has_1_3) properties12.pNext = &properties13;
  vkGetPhysicalDeviceProperties2(device, &properties);
  VkPhysicalDeviceVulkan13Features features13{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
  VkPhysicalDeviceVulkan12Features features12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
  VkPhysicalDeviceVulkan11Features features11{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES};
  VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &features11};
  features11.pNext = &features12;
  if (has_1_3) features12.pNext = &features13;
  vkGetPhysicalDeviceFeatures2(device, &features);

  info.driver = fmt::format("{} {}", properties12.driverName, properties12.driverInfo);
  info.subgroup_size = properties11.subgroupSize;
  info.min_subgroup_size = has_1_3 ? properties13.minSubgroupSize : properties11.subgroupSize;
  info.max_subgroup_size = has_1_3 ? properties13.maxSubgroupSize : properties11.subgroupSize;
  info.subgroup_arithmetic =
      (properties11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0 &&
      (properties11.subgroupSupportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT) != 0;
  info.integer_dot = has_1_3 && features13.shaderIntegerDotProduct != VK_FALSE;
  info.integer_dot_accelerated =
      info.integer_dot && properties13.integerDotProduct4x8BitPackedSignedAccelerated != VK_FALSE;
  info.cooperative_matrix = has_extension(extensions, "VK_KHR_cooperative_matrix");
  info.float16 = features12.shaderFloat16 != VK_FALSE;
  info.int8 = features12.shaderInt8 != VK_FALSE;
  info.storage_8bit = features12.storageBuffer8BitAccess != VK_FALSE;
  info.storage_16bit = features11.storageBuffer16BitAccess != VK_FALSE;

  info.max_allocation_bytes = static_cast<int64_t>(properties11.maxMemoryAllocationSize);
  // Drivers before 1.3 do not say how large a buffer may be; nobody's limit is below an allocation's.
  info.max_buffer_bytes =
      has_1_3 ? static_cast<int64_t>(std::min<uint64_t>(properties13.maxBufferSize, INT64_MAX))
              : info.max_allocation_bytes;
  info.max_storage_range_bytes = basic.limits.maxStorageBufferRange;
  info.max_shared_bytes = basic.limits.maxComputeSharedMemorySize;
  info.max_workgroup = basic.limits.maxComputeWorkGroupInvocations;

  const bool has_compute = std::ranges::any_of(
      read_queue_families(device), [](const auto& f) { return (f.queueFlags & VK_QUEUE_COMPUTE_BIT) != 0; });
  info.unusable = why_unusable(info, features12, has_compute);
  info.main_heap = std::max(info.main_heap, 0);
  return info;
}

Result<std::vector<VkPhysicalDevice>> physical_devices(VkInstance instance) {
  uint32_t count = 0;
  PACKMULE_VK(vkEnumeratePhysicalDevices(instance, &count, nullptr));
  std::vector<VkPhysicalDevice> devices(count);
  PACKMULE_VK(vkEnumeratePhysicalDevices(instance, &count, devices.data()));
  devices.resize(count);
  return devices;
}

}  // namespace

std::vector<VkQueueFamilyProperties> read_queue_families(VkPhysicalDevice device) {
  uint32_t count = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
  return families;
}

std::vector<MemoryHeap> read_heaps(VkPhysicalDevice device, bool has_memory_budget) {
  VkPhysicalDeviceMemoryBudgetPropertiesEXT budget{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
  VkPhysicalDeviceMemoryProperties2 memory{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
  if (has_memory_budget) memory.pNext = &budget;
  vkGetPhysicalDeviceMemoryProperties2(device, &memory);
  std::vector<MemoryHeap> heaps;
  for (uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; ++i) {
    const VkMemoryHeap& heap = memory.memoryProperties.memoryHeaps[i];
    MemoryHeap mine{.size_bytes = static_cast<int64_t>(heap.size),
                    .device_local = (heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0};
    if (has_memory_budget) {
      mine.budget_bytes = static_cast<int64_t>(budget.heapBudget[i]);
      mine.usage_bytes = static_cast<int64_t>(budget.heapUsage[i]);
    }
    heaps.push_back(mine);
  }
  return heaps;
}

Instance::Instance() : messages_(std::make_unique<Messages>()) {}

Instance::~Instance() {
  if (messenger_ != VK_NULL_HANDLE) vkDestroyDebugUtilsMessengerEXT(instance_, messenger_, nullptr);
  if (instance_ != VK_NULL_HANDLE) vkDestroyInstance(instance_, nullptr);
}

Result<std::shared_ptr<Instance>> Instance::create(InstanceOptions options) {
  if (volkInitialize() != VK_SUCCESS)
    return fail(ErrorKind::kUnsupported, "no Vulkan loader (libvulkan.so.1) on this machine");
  if (volkGetInstanceVersion() < VK_API_VERSION_1_2)
    return fail(ErrorKind::kUnsupported, "the Vulkan loader of this machine is older than 1.2");

  std::shared_ptr<Instance> instance(new Instance);
  VkApplicationInfo application{VK_STRUCTURE_TYPE_APPLICATION_INFO};
  application.pApplicationName = "packmule";
  application.apiVersion = VK_API_VERSION_1_3;
  VkInstanceCreateInfo create{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
  create.pApplicationInfo = &application;

  VkDebugUtilsMessengerCreateInfoEXT messenger{VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
  messenger.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  messenger.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
  messenger.pfnUserCallback = Messages::note;
  messenger.pUserData = instance->messages_.get();
  const char* extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  const VkValidationFeatureEnableEXT enabled = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
  VkValidationFeaturesEXT checks{
      VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT, &messenger, 1, &enabled, 0, nullptr};
  if (options.validation) {
    create.pNext = &checks;
    create.enabledLayerCount = 1;
    create.ppEnabledLayerNames = &kValidationLayer;
    create.enabledExtensionCount = 1;
    create.ppEnabledExtensionNames = &extension;
  }
  const VkResult created = vkCreateInstance(&create, nullptr, &instance->instance_);
  if (created == VK_ERROR_INCOMPATIBLE_DRIVER)
    return fail(ErrorKind::kUnsupported, "the Vulkan loader found no driver on this machine");
  if (created == VK_ERROR_LAYER_NOT_PRESENT)
    return fail(ErrorKind::kUnsupported, "there is no {} (Debian: vulkan-validationlayers)",
                kValidationLayer);
  if (created != VK_SUCCESS) return tl::unexpected<Error>(call_error("vkCreateInstance", created));
  volkLoadInstanceOnly(instance->instance_);
  if (options.validation)
    PACKMULE_VK(
        vkCreateDebugUtilsMessengerEXT(instance->instance_, &messenger, nullptr, &instance->messenger_));
  return instance;
}

Result<std::vector<DeviceInfo>> Instance::devices() const {
  PACKMULE_TRY(const auto found, physical_devices(instance_));
  if (found.empty())
    return fail(ErrorKind::kUnsupported, "the Vulkan drivers of this machine have no device");
  std::vector<DeviceInfo> devices;
  for (size_t i = 0; i < found.size(); ++i) devices.push_back(inspect(found[i], static_cast<int>(i)));
  std::ranges::stable_sort(devices, {}, &DeviceInfo::type);
  for (size_t i = 0; i < devices.size(); ++i) devices[i].id = fmt::format("Vulkan{}", i);
  return devices;
}

Result<VkPhysicalDevice> Instance::physical_device(const DeviceInfo& info) const {
  PACKMULE_TRY(const auto found, physical_devices(instance_));
  if (static_cast<size_t>(info.index) >= found.size())
    return fail(ErrorKind::kIo, "{} ({}) is not there any more", info.id, info.name);
  return found[static_cast<size_t>(info.index)];
}

std::vector<std::string> Instance::take_messages() {
  const std::lock_guard lock(messages_->mutex);
  return std::exchange(messages_->texts, {});
}

}  // namespace packmule::vulkan
