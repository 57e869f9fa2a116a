#include "vulkan/memory.h"

#include <array>
#include <utility>

namespace packmule::vulkan {
namespace {

constexpr VkMemoryPropertyFlags kHostVisible =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(buffer_, other.buffer_);
  std::swap(memory_, other.memory_);
  std::swap(address_, other.address_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(counted_bytes_, other.counted_bytes_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

Buffer::~Buffer() {
  if (device_ == nullptr) return;
  if (buffer_ != VK_NULL_HANDLE) device_->fn().vkDestroyBuffer(device_->handle(), buffer_, nullptr);
  if (memory_ != VK_NULL_HANDLE) device_->fn().vkFreeMemory(device_->handle(), memory_, nullptr);
  device_->budget().give_back(counted_bytes_);
}

Result<Buffer> Buffer::create(std::shared_ptr<Device> device, Kind kind, int64_t size_bytes,
                              std::string_view what) {
  Buffer buffer;
  buffer.device_ = std::move(device);
  buffer.size_bytes_ = size_bytes;
  PACKMULE_TRY_STATUS(buffer.open(kind, what));
  return buffer;
}

Status Buffer::open(Kind kind, std::string_view what) {
  const VolkDeviceTable& fn = device_->fn();
  VkBufferCreateInfo create{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  create.size = static_cast<VkDeviceSize>(size_bytes_);
  create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT;
  create.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  const std::array families = device_->queue_families();
  if (kind == Kind::kShared && device_->has_transfer_queue()) {
    create.sharingMode = VK_SHARING_MODE_CONCURRENT;
    create.queueFamilyIndexCount = static_cast<uint32_t>(families.size());
    create.pQueueFamilyIndices = families.data();
  }
  PACKMULE_VK(fn.vkCreateBuffer(device_->handle(), &create, nullptr, &buffer_));
  VkMemoryRequirements needs;
  fn.vkGetBufferMemoryRequirements(device_->handle(), buffer_, &needs);

  const uint32_t allowed = needs.memoryTypeBits;
  Result<uint32_t> type = 0u;
  const bool of_device = kind == Kind::kDevice || kind == Kind::kShared;
  if (of_device) {
    type = device_->memory_type(allowed, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, device_->info().main_heap);
  } else {
    if (kind == Kind::kReadback)
      type = device_->memory_type(allowed, kHostVisible | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, -1);
    if (kind == Kind::kUpload || !type) type = device_->memory_type(allowed, kHostVisible, -1);
  }
  PACKMULE_TRY(const uint32_t memory_type, std::move(type));

  const auto bytes = static_cast<int64_t>(needs.size);
  if (device_->heap_of(memory_type) == device_->info().main_heap) {
    PACKMULE_TRY_STATUS(device_->budget().take(what, bytes));
    counted_bytes_ = bytes;
  }
  VkMemoryAllocateFlagsInfo flags{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO};
  flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT;
  VkMemoryAllocateInfo allocate{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, &flags};
  allocate.allocationSize = needs.size;
  allocate.memoryTypeIndex = memory_type;
  PACKMULE_VK(fn.vkAllocateMemory(device_->handle(), &allocate, nullptr, &memory_));
  PACKMULE_VK(fn.vkBindBufferMemory(device_->handle(), buffer_, memory_, 0));
  VkBufferDeviceAddressInfo where{VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO};
  where.buffer = buffer_;
  address_ = fn.vkGetBufferDeviceAddress(device_->handle(), &where);
  if (!of_device) {
    void* data = nullptr;
    PACKMULE_VK(fn.vkMapMemory(device_->handle(), memory_, 0, VK_WHOLE_SIZE, 0, &data));
    mapped_ = {static_cast<std::byte*>(data), static_cast<size_t>(size_bytes_)};
  }
  return {};
}

Result<Arenas> Arenas::allocate(const std::shared_ptr<Device>& device, ArenaLayout layout,
                                std::string_view what) {
  PACKMULE_TRY_STATUS(layout.pack(device->largest_arena()));
  // The whole sum is asked for first, so that a refusal names it and leaves nothing behind.
  PACKMULE_TRY_STATUS(device->budget().take(what, layout.total_bytes()));
  device->budget().give_back(layout.total_bytes());
  if (device->available_bytes() < layout.total_bytes())
    return fail(ErrorKind::kOutOfMemory,
                "{}: {} need {} bytes, and the driver has {} left: other programs use the device's memory",
                device->info().id, what, layout.total_bytes(), device->available_bytes());
  Arenas arenas;
  for (const int64_t bytes : layout.arena_bytes()) {
    PACKMULE_TRY(Buffer buffer, Buffer::create(device, Buffer::Kind::kDevice, bytes, what));
    arenas.buffers_.push_back(std::move(buffer));
  }
  arenas.layout_ = std::move(layout);
  return arenas;
}

Span Arenas::span(int item) const {
  const Place& place = layout_.place(item);
  return buffers_[static_cast<size_t>(place.arena)].span().part(place.offset, place.size_bytes);
}

}  // namespace packmule::vulkan
