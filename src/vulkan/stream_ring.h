// Weights that pass through a device: a ring of slots which the host fills ahead of the work that reads them.
//
// A slot is a staging buffer and as much device memory. While the device works on one slot, the next is
// copied by the transfer queue (device.h), and the host fills the staging of the one after it:
//
//   host      fill 0 | fill 1 | fill 2 | ...
//   transfer           copy 0 | copy 1 | copy 2 | ...
//   compute                     work 0 | work 1 | ...
//
// A staging buffer is filled anew when its copy is done, device memory when the work on it is; the host waits
// only for the former. Nothing here knows what the bytes are.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vulkan/commands.h"
#include "vulkan/memory.h"

namespace packmule::vulkan {

class StreamRing {
 public:
  /// Writes the bytes of a piece to a staging buffer.
  using Fill = std::function<void(std::span<std::byte> staging)>;
  /// Appends the work on a piece that lies at `slot`, with barriers between its dispatches and at its end.
  using Work = std::function<Status(Recorder& recorder, const Span& slot)>;

  /// One size for all slots, a multiple of 4.
  static Result<StreamRing> create(std::shared_ptr<Device> device, int64_t n_slots, int64_t slot_bytes);

  [[nodiscard]] int64_t slot_bytes() const { return slot_bytes_; }
  /// Fills the next slot with n_bytes, at most slot_bytes(), and hands over the copy and the work, which runs
  /// after everything handed to the compute queue before. -> the work's ticket.
  [[nodiscard]] Result<Ticket> run(int64_t n_bytes, const Fill& fill, const Work& work);
  /// Waits for everything that was handed over.
  [[nodiscard]] Status finish();

 private:
  struct Slot {
    Buffer staging, memory;
    CommandList copy;
    int64_t copy_bytes = 0;  // that the list was recorded for
    Ticket copied = 0;       // of the transfer queue
    Ticket worked = 0;       // of the compute queue
  };

  std::shared_ptr<Device> device_;
  int64_t slot_bytes_ = 0;
  std::vector<Slot> slots_;
  /// Twice as many as slots, so that a list is never done away with while it may still have to run.
  std::vector<CommandList> works_;
  size_t n_run_ = 0;
};

}  // namespace packmule::vulkan
