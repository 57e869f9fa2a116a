// Buffers: arenas in device memory, and memory that both sides see.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "vulkan/arena_layout.h"
#include "vulkan/device.h"

namespace packmule::vulkan {

/// A part of a buffer. Shaders get its address: packmule has no descriptors, so no binding limits its size.
struct Span {
  VkBuffer buffer = VK_NULL_HANDLE;
  int64_t offset = 0;
  int64_t size_bytes = 0;
  VkDeviceAddress address = 0;  // of its first byte

  [[nodiscard]] Span part(int64_t first, int64_t n_bytes) const {
    return {buffer, offset + first, n_bytes, address + static_cast<uint64_t>(first)};
  }
};

/// A VkBuffer with memory of its own, counted in the device's budget when it lies in the main heap.
class Buffer {
 public:
  enum class Kind {
    kDevice,    // in the main heap; the host reaches it by copies only
    kShared,    // the same, used by both queues
    kUpload,    // written by the host, read by the device (staging, parameters of a step)
    kReadback,  // written by the device, read by the host, cached there if possible
  };
  static Result<Buffer> create(std::shared_ptr<Device> device, Kind kind, int64_t size_bytes,
                               std::string_view what);
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  [[nodiscard]] Span span() const { return {buffer_, 0, size_bytes_, address_}; }
  /// The host's view; empty for kDevice and kShared. Coherent: nothing to flush.
  [[nodiscard]] std::span<std::byte> mapped() const { return mapped_; }
  template <class T>
  [[nodiscard]] std::span<T> as() const {
    return {reinterpret_cast<T*>(mapped_.data()), mapped_.size() / sizeof(T)};
  }

 private:
  Status open(Kind kind, std::string_view what);
  std::shared_ptr<Device> device_;
  VkBuffer buffer_ = VK_NULL_HANDLE;
  VkDeviceMemory memory_ = VK_NULL_HANDLE;
  VkDeviceAddress address_ = 0;
  int64_t size_bytes_ = 0;
  int64_t counted_bytes_ = 0;
  std::span<std::byte> mapped_;
};

/// The arenas of a layout.
class Arenas {
 public:
  /// Packs the layout and allocates it. Refused as a whole, before anything is allocated, when the budget
  /// does not hold it; `what` says what it is for ("weights").
  static Result<Arenas> allocate(const std::shared_ptr<Device>& device, ArenaLayout layout,
                                 std::string_view what);

  [[nodiscard]] Span span(int item) const;
  [[nodiscard]] int64_t total_bytes() const { return layout_.total_bytes(); }

 private:
  ArenaLayout layout_;
  std::vector<Buffer> buffers_;
};

}  // namespace packmule::vulkan
