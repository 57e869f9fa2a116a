#include "vulkan/commands.h"

#include <algorithm>
#include <array>
#include <utility>

namespace packmule::vulkan {

CommandList& CommandList::operator=(CommandList&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(commands_, other.commands_);
  std::swap(queue_, other.queue_);
  std::swap(last_, other.last_);
  return *this;
}

CommandList::~CommandList() {
  if (commands_ == VK_NULL_HANDLE) return;
  (void)device_->wait(last_, queue_);  // of a lost device nothing runs
  device_->fn().vkFreeCommandBuffers(device_->handle(), device_->command_pool(queue_), 1, &commands_);
}

Result<Ticket> CommandList::submit(Ticket after) {
  PACKMULE_TRY_STATUS(device_->wait(last_, queue_));
  PACKMULE_TRY(last_, device_->submit(commands_, queue_, after));
  return last_;
}

Status CommandList::submit_with(CommandList& next) {
  PACKMULE_TRY_STATUS(device_->wait(std::max(last_, next.last_)));
  const std::array both = {commands_, next.commands_};
  PACKMULE_TRY(last_, device_->submit(both));
  next.last_ = last_ + 1;
  return {};
}

Status CommandList::run() {
  PACKMULE_TRY(const Ticket ticket, submit());
  return device_->wait(ticket, queue_);
}

Result<Recorder> Recorder::begin(std::shared_ptr<Device> device, QueueKind queue) {
  Recorder recorder;
  CommandList& list = recorder.list_;
  list.device_ = std::move(device);
  list.queue_ = queue;
  const VolkDeviceTable& fn = list.device_->fn();
  VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
  allocate.commandPool = list.device_->command_pool(queue);
  allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  allocate.commandBufferCount = 1;
  PACKMULE_VK(fn.vkAllocateCommandBuffers(list.device_->handle(), &allocate, &list.commands_));
  const VkCommandBufferBeginInfo begin{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  PACKMULE_VK(fn.vkBeginCommandBuffer(list.commands_, &begin));
  return recorder;
}

void Recorder::bind(const Pipeline& pipeline, std::span<const std::byte> push) {
  const VolkDeviceTable& fn = list_.device_->fn();
  if (bound_ != pipeline.handle)
    fn.vkCmdBindPipeline(list_.commands_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.handle);
  bound_ = pipeline.handle;
  fn.vkCmdPushConstants(list_.commands_, pipeline.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                        static_cast<uint32_t>(push.size()), push.data());
}

void Recorder::dispatch(const Pipeline& pipeline, std::span<const std::byte> push, Groups groups) {
  if (groups.x == 0 || groups.y == 0 || groups.z == 0) return;
  bind(pipeline, push);
  list_.device_->fn().vkCmdDispatch(list_.commands_, groups.x, groups.y, groups.z);
}

void Recorder::dispatch_indirect(const Pipeline& pipeline, std::span<const std::byte> push,
                                 const Span& groups) {
  bind(pipeline, push);
  list_.device_->fn().vkCmdDispatchIndirect(list_.commands_, groups.buffer,
                                            static_cast<VkDeviceSize>(groups.offset));
}

void Recorder::copy(const Span& from, const Span& to) {
  if (from.size_bytes == 0) return;
  const VkBufferCopy region{static_cast<VkDeviceSize>(from.offset), static_cast<VkDeviceSize>(to.offset),
                            static_cast<VkDeviceSize>(from.size_bytes)};
  list_.device_->fn().vkCmdCopyBuffer(list_.commands_, from.buffer, to.buffer, 1, &region);
}

void Recorder::fill(const Span& span, uint32_t word) {
  if (span.size_bytes == 0) return;
  list_.device_->fn().vkCmdFillBuffer(list_.commands_, span.buffer, static_cast<VkDeviceSize>(span.offset),
                                      static_cast<VkDeviceSize>(span.size_bytes), word);
}

void Recorder::barrier() {
  VkMemoryBarrier memory{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  memory.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT;
  memory.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                         VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT |
                         VK_ACCESS_INDIRECT_COMMAND_READ_BIT | VK_ACCESS_HOST_READ_BIT;
  const VkPipelineStageFlags work =
      VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT;
  list_.device_->fn().vkCmdPipelineBarrier(list_.commands_, work, work | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT,
                                           0, 1, &memory, 0, nullptr, 0, nullptr);
}

Result<CommandList> Recorder::finish() {
  PACKMULE_VK(list_.device_->fn().vkEndCommandBuffer(list_.commands_));
  return std::move(list_);
}

}  // namespace packmule::vulkan
