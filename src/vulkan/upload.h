// Bytes to the device and back through host-visible memory.
#pragma once

#include <functional>
#include <vector>

#include "vulkan/commands.h"
#include "vulkan/memory.h"

namespace packmule::vulkan {

/// A ring of staging buffers: while the device copies out of one, the host fills the next, straight from
/// wherever the bytes are (a mapped file is paged in by that very copy).
class Uploader {
 public:
  /// Told the bytes handed over so far of this upload.
  using Progress = std::function<void(int64_t n_bytes)>;

  static constexpr int kSlots = 4;
  static constexpr int64_t kSlotBytes = 8 << 20;
  /// `slot_bytes` is a multiple of 4.
  static Result<Uploader> create(std::shared_ptr<Device> device, int64_t slot_bytes = kSlotBytes);

  /// Copies bytes to the start of `to`. On return they may still be on their way, in order before later work
  /// of the device; `from` is not needed any more.
  [[nodiscard]] Status upload(std::span<const std::byte> from, const Span& to, const Progress& progress = {});
  /// Waits until all of it has arrived.
  [[nodiscard]] Status finish();

 private:
  struct Slot {
    Buffer staging;
    CommandList copy;
    Ticket ticket = 0;
  };
  std::shared_ptr<Device> device_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
};

/// Copies a span of device memory to `to`, of the same size, and waits for it. For results and tests; logits
/// are copied by a recorded list (commands.h) into a kReadback buffer.
[[nodiscard]] Status read_back(const std::shared_ptr<Device>& device, const Span& from,
                               std::span<std::byte> to);

}  // namespace packmule::vulkan
