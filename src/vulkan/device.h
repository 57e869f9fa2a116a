// A logical device with its queues: what buffers, pipelines and command lists are made with.
//
// Two queues: one computes and does everything else, the other only copies, beside it. Where a device has no
// family of queues for copies alone, both are the same queue of the driver, and copies run in the order of
// handing over.
//
// Not thread-safe: one thread drives a device. A device outlives everything made with it (they hold it by
// std::shared_ptr).
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include "vulkan/budget.h"
#include "vulkan/device_info.h"
#include "vulkan/instance.h"
#include "vulkan/volk.h"

namespace packmule::vulkan {

/// Work that was handed to a queue: done when the queue's counter has reached it. 0 is always done.
using Ticket = uint64_t;

enum class QueueKind : uint8_t { kCompute, kTransfer };

class Device {
 public:
  static Result<std::shared_ptr<Device>> create(std::shared_ptr<Instance> instance, const DeviceInfo& info,
                                                const MemoryPolicy& policy = {});
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] const DeviceInfo& info() const { return info_; }
  [[nodiscard]] VkDevice handle() const { return device_; }
  [[nodiscard]] const VolkDeviceTable& fn() const { return table_; }
  [[nodiscard]] VkCommandPool command_pool(QueueKind kind = QueueKind::kCompute) const {
    return queue(kind).pool;
  }
  /// Whether copies have a queue of their own. What both queues use must be made for both families then.
  [[nodiscard]] bool has_transfer_queue() const {
    return queue(QueueKind::kTransfer).family != queue(QueueKind::kCompute).family;
  }
  [[nodiscard]] std::array<uint32_t, 2> queue_families() const {
    return {queues_[0].family, queues_[1].family};
  }
  [[nodiscard]] Budget& budget() { return budget_; }

  /// Bytes of an arena: what the driver allows, at most kLargestArena.
  [[nodiscard]] int64_t largest_arena() const;
  /// The first memory type among `allowed` with all of `wanted`, that lies in `heap` if heap >= 0;
  /// kUnsupported without one.
  [[nodiscard]] Result<uint32_t> memory_type(uint32_t allowed, VkMemoryPropertyFlags wanted, int heap) const;
  [[nodiscard]] int heap_of(uint32_t memory_type) const;

  /// By the driver, now: what other programs leave. Equal to the heap's size where it does not say.
  [[nodiscard]] int64_t available_bytes() const;

  /// By how much this process has more of the main heap than the driver lets it have, now: then the driver
  /// may move some of it to slower memory. 0 where the driver does not say.
  [[nodiscard]] int64_t over_budget_bytes() const;
  /// For tests: what over_budget_bytes() says.
  void pretend_over_budget(int64_t n_bytes) { pretended_over_bytes_ = n_bytes; }

  /// Hands a command buffer to a queue; it runs after everything handed to that queue before, and after
  /// `after` of the other queue, which must have been handed over already. What that wrote is seen.
  [[nodiscard]] Result<Ticket> submit(VkCommandBuffer commands, QueueKind kind = QueueKind::kCompute,
                                      Ticket after = 0);
  /// Several in one call, one after the other, each with a ticket of its own: the first one's is returned,
  /// the others' follow it. At most kMostAtOnce.
  [[nodiscard]] Result<Ticket> submit(std::span<const VkCommandBuffer> commands);
  static constexpr size_t kMostAtOnce = 2;
  /// For tests: the device is lost after `n` more submissions, as it is when a driver resets it.
  void lose_after(int64_t n) { submissions_left_ = n; }

  /// Waits until it is done. An error when the device is lost.
  [[nodiscard]] Status wait(Ticket ticket, QueueKind kind = QueueKind::kCompute);
  [[nodiscard]] Result<bool> is_done(Ticket ticket);

 private:
  Device(std::shared_ptr<Instance> instance, const DeviceInfo& info, int64_t budget_bytes);
  Status open(VkPhysicalDevice physical);
  struct Queue {
    uint32_t family = 0;
    VkQueue handle = VK_NULL_HANDLE;
    VkCommandPool pool = VK_NULL_HANDLE;
    VkSemaphore timeline = VK_NULL_HANDLE;
    Ticket last = 0;
  };
  Status open(Queue& queue);
  Status count_submission();
  [[nodiscard]] const Queue& queue(QueueKind kind) const { return queues_[static_cast<size_t>(kind)]; }
  [[nodiscard]] Queue& queue(QueueKind kind) { return queues_[static_cast<size_t>(kind)]; }

  std::shared_ptr<Instance> instance_;
  DeviceInfo info_;
  Budget budget_;
  VkPhysicalDevice physical_ = VK_NULL_HANDLE;
  VkPhysicalDeviceMemoryProperties memory_{};
  VkDevice device_ = VK_NULL_HANDLE;
  VolkDeviceTable table_{};
  std::array<Queue, 2> queues_;        // by QueueKind
  int64_t pretended_over_bytes_ = -1;  // negative: the driver is asked
  int64_t submissions_left_ = -1;      // until the device is lost; negative: it is not
};

}  // namespace packmule::vulkan
