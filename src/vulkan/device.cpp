#include "vulkan/device.h"

#include <algorithm>
#include <array>
#include <vector>

#include "vulkan/arena_layout.h"

namespace packmule::vulkan {
namespace {

/// The family to compute with: one that does nothing else if there is one (graphics work of other programs
/// does not hold it up), else the first that can.
uint32_t choose_family(VkPhysicalDevice device) {
  const auto families = read_queue_families(device);
  const auto count = static_cast<uint32_t>(families.size());
  uint32_t first = count;
  for (uint32_t i = 0; i < count; ++i) {
    if ((families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) == 0) continue;
    if ((families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT) == 0) return i;
    first = std::min(first, i);
  }
  return first;
}

/// A family that copies and does nothing else: the engines that move memory while others compute. `otherwise`
/// where there is none.
uint32_t choose_transfer_family(VkPhysicalDevice device, uint32_t otherwise) {
  constexpr VkQueueFlags kOfCopies =
      VK_QUEUE_TRANSFER_BIT | VK_QUEUE_SPARSE_BINDING_BIT | VK_QUEUE_PROTECTED_BIT;
  const auto families = read_queue_families(device);
  for (uint32_t i = 0; i < families.size(); ++i)
    if ((families[i].queueFlags & VK_QUEUE_TRANSFER_BIT) != 0 && (families[i].queueFlags & ~kOfCopies) == 0)
      return i;
  return otherwise;
}

}  // namespace

Device::Device(std::shared_ptr<Instance> instance, const DeviceInfo& info, int64_t budget)
    : instance_(std::move(instance)), info_(info), budget_(info.id, budget) {}

Device::~Device() {
  if (device_ == VK_NULL_HANDLE) return;
  if (table_.vkDeviceWaitIdle != nullptr) table_.vkDeviceWaitIdle(device_);
  for (const Queue& queue : queues_) {
    if (queue.timeline != VK_NULL_HANDLE) table_.vkDestroySemaphore(device_, queue.timeline, nullptr);
    if (queue.pool != VK_NULL_HANDLE) table_.vkDestroyCommandPool(device_, queue.pool, nullptr);
  }
  table_.vkDestroyDevice(device_, nullptr);
}

Result<std::shared_ptr<Device>> Device::create(std::shared_ptr<Instance> instance, const DeviceInfo& info,
                                               const MemoryPolicy& policy) {
  if (!info.usable())
    return fail(ErrorKind::kUnsupported, "{} ({}) cannot be used: {}", info.id, info.name, info.unusable);
  PACKMULE_TRY(const VkPhysicalDevice physical, instance->physical_device(info));
  const int64_t budget = vulkan::budget_bytes(info.memory().available_bytes(), policy);
  std::shared_ptr<Device> device(new Device(std::move(instance), info, budget));
  PACKMULE_TRY_STATUS(device->open(physical));
  return device;
}

Status Device::open(VkPhysicalDevice physical) {
  physical_ = physical;
  vkGetPhysicalDeviceMemoryProperties(physical, &memory_);

  const uint32_t family = choose_family(physical);
  const std::array families = {family, choose_transfer_family(physical, family)};
  const float priority = 1.0f;
  std::array<VkDeviceQueueCreateInfo, 2> wanted{};
  for (size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].family = families[i];
    wanted[i].sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
    wanted[i].queueFamilyIndex = families[i];
    wanted[i].queueCount = 1;
    wanted[i].pQueuePriorities = &priority;
  }
  VkPhysicalDeviceVulkan13Features features13{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
  features13.shaderIntegerDotProduct = VK_TRUE;
  VkPhysicalDeviceVulkan12Features features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
  if (info_.integer_dot) features.pNext = &features13;
  features.bufferDeviceAddress = VK_TRUE;
  features.timelineSemaphore = VK_TRUE;
  VkDeviceCreateInfo create{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &features};
  create.queueCreateInfoCount = has_transfer_queue() ? 2 : 1;
  create.pQueueCreateInfos = wanted.data();
  const char* budget_extension = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
  if (info_.has_memory_budget) {
    create.enabledExtensionCount = 1;
    create.ppEnabledExtensionNames = &budget_extension;
  }
  PACKMULE_VK(vkCreateDevice(physical, &create, nullptr, &device_));
  volkLoadDeviceTable(&table_, device_);
  for (Queue& queue : queues_) PACKMULE_TRY_STATUS(open(queue));
  return {};
}

Status Device::open(Queue& queue) {
  table_.vkGetDeviceQueue(device_, queue.family, 0, &queue.handle);
  VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
  pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
  pool.queueFamilyIndex = queue.family;
  PACKMULE_VK(table_.vkCreateCommandPool(device_, &pool, nullptr, &queue.pool));
  VkSemaphoreTypeCreateInfo type{VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO};
  type.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE;
  VkSemaphoreCreateInfo semaphore{VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, &type};
  PACKMULE_VK(table_.vkCreateSemaphore(device_, &semaphore, nullptr, &queue.timeline));
  return {};
}

int64_t Device::largest_arena() const {
  return std::min({info_.max_allocation_bytes, info_.max_buffer_bytes, kLargestArena});
}

Result<uint32_t> Device::memory_type(uint32_t allowed, VkMemoryPropertyFlags wanted, int heap) const {
  for (uint32_t i = 0; i < memory_.memoryTypeCount; ++i) {
    const VkMemoryType& type = memory_.memoryTypes[i];
    if ((allowed >> i & 1) != 0 && (type.propertyFlags & wanted) == wanted &&
        (heap < 0 || static_cast<int>(type.heapIndex) == heap))
      return i;
  }
  return fail(ErrorKind::kUnsupported, "{} has no memory with the properties {:#x}", info_.id, wanted);
}

int Device::heap_of(uint32_t memory_type) const {
  return static_cast<int>(memory_.memoryTypes[memory_type].heapIndex);
}

int64_t Device::available_bytes() const {
  return read_heaps(physical_, info_.has_memory_budget)[static_cast<size_t>(info_.main_heap)]
      .available_bytes();
}

int64_t Device::over_budget_bytes() const {
  if (pretended_over_bytes_ >= 0) return pretended_over_bytes_;
  if (!info_.has_memory_budget) return 0;
  const MemoryHeap heap = read_heaps(physical_, true)[static_cast<size_t>(info_.main_heap)];
  return heap.budget_bytes ? std::max<int64_t>(0, heap.usage_bytes - *heap.budget_bytes) : 0;
}

Status Device::count_submission() {
  if (submissions_left_ == 0) PACKMULE_VK(VK_ERROR_DEVICE_LOST);
  if (submissions_left_ > 0) --submissions_left_;
  return {};
}

Result<Ticket> Device::submit(VkCommandBuffer commands, QueueKind kind, Ticket after) {
  PACKMULE_TRY_STATUS(count_submission());
  Queue& to = queue(kind);
  const Queue& other = queue(kind == QueueKind::kCompute ? QueueKind::kTransfer : QueueKind::kCompute);
  const Ticket ticket = to.last + 1;
  const VkPipelineStageFlags everything = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
  VkTimelineSemaphoreSubmitInfo timeline{VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO};
  timeline.signalSemaphoreValueCount = 1;
  timeline.pSignalSemaphoreValues = &ticket;
  VkSubmitInfo info{VK_STRUCTURE_TYPE_SUBMIT_INFO, &timeline};
  if (after > 0) {
    timeline.waitSemaphoreValueCount = 1;
    timeline.pWaitSemaphoreValues = &after;
    info.waitSemaphoreCount = 1;
    info.pWaitSemaphores = &other.timeline;
    info.pWaitDstStageMask = &everything;
  }
  info.commandBufferCount = 1;
  info.pCommandBuffers = &commands;
  info.signalSemaphoreCount = 1;
  info.pSignalSemaphores = &to.timeline;
  PACKMULE_VK(table_.vkQueueSubmit(to.handle, 1, &info, VK_NULL_HANDLE));
  return to.last = ticket;
}

Result<Ticket> Device::submit(std::span<const VkCommandBuffer> commands) {
  PACKMULE_TRY_STATUS(count_submission());
  Queue& to = queue(QueueKind::kCompute);
  std::array<Ticket, kMostAtOnce> tickets{};
  std::array<VkTimelineSemaphoreSubmitInfo, kMostAtOnce> timelines{};
  std::array<VkSubmitInfo, kMostAtOnce> submits{};
  for (size_t i = 0; i < commands.size(); ++i) {
    tickets[i] = to.last + 1 + i;
    timelines[i].sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO;
    timelines[i].signalSemaphoreValueCount = 1;
    timelines[i].pSignalSemaphoreValues = &tickets[i];
    submits[i].sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
    submits[i].pNext = &timelines[i];
    submits[i].commandBufferCount = 1;
    submits[i].pCommandBuffers = &commands[i];
    submits[i].signalSemaphoreCount = 1;
    submits[i].pSignalSemaphores = &to.timeline;
  }
  PACKMULE_VK(table_.vkQueueSubmit(to.handle, static_cast<uint32_t>(commands.size()), submits.data(),
                                   VK_NULL_HANDLE));
  to.last += commands.size();
  return tickets[0];
}

Status Device::wait(Ticket ticket, QueueKind kind) {
  if (ticket == 0) return {};
  VkSemaphoreWaitInfo wait{VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO};
  wait.semaphoreCount = 1;
  wait.pSemaphores = &queue(kind).timeline;
  wait.pValues = &ticket;
  PACKMULE_VK(table_.vkWaitSemaphores(device_, &wait, UINT64_MAX));
  return {};
}

Result<bool> Device::is_done(Ticket ticket) {
  uint64_t reached = 0;
  PACKMULE_VK(table_.vkGetSemaphoreCounterValue(device_, queue(QueueKind::kCompute).timeline, &reached));
  return reached >= ticket;
}

}  // namespace packmule::vulkan
