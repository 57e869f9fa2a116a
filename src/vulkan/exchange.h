// Many pieces of device memory to the host and back, through two staging buffers: while the device copies one
// of them, the host empties or fills the other, and a buffer takes as many pieces as it has room for, however
// small they are.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "vulkan/commands.h"
#include "vulkan/memory.h"

namespace packmule::vulkan {

class Exchange {
 public:
  static constexpr int kSlots = 2;
  static constexpr int64_t kSlotBytes = 8 << 20;

  /// Device memory and host memory of the same size. Sizes and offsets are multiples of 4.
  template <class Byte>
  struct Piece {
    Span device;
    std::span<Byte> host;
  };

  /// `slot_bytes` is a multiple of 4.
  static Result<Exchange> create(std::shared_ptr<Device> device, int64_t slot_bytes = kSlotBytes);

  /// After everything handed over before; on return it is done. After an error the host's memory is
  /// undefined.
  [[nodiscard]] Status read(std::span<const Piece<std::byte>> pieces);
  /// On return it is done, and the host's memory needed no more. After an error the device's is undefined.
  [[nodiscard]] Status write(std::span<const Piece<const std::byte>> pieces);

 private:
  struct Slot {
    Buffer staging;
    CommandList copies;
    std::vector<std::span<std::byte>> to;  // of the host, in the order in which they lie in `staging`
  };
  Exchange() = default;
  [[nodiscard]] Status empty(Slot& slot);
  std::shared_ptr<Device> device_;
  std::array<Slot, kSlots> slots_;
};

}  // namespace packmule::vulkan
