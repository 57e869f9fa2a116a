// Command lists: recorded once, handed to the device as often as wanted.
//
// What changes between runs (token ids, positions, pages) is read by the shaders from buffers, so a list for
// a decode step is recorded when the model is loaded and then only submitted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "vulkan/memory.h"
#include "vulkan/pipeline.h"

namespace packmule::vulkan {

struct Groups {
  uint32_t x = 1, y = 1, z = 1;
};

/// A finished list. Destroying it waits until it is not running any more.
class CommandList {
 public:
  CommandList() = default;
  CommandList(CommandList&& other) noexcept { *this = std::move(other); }
  CommandList& operator=(CommandList&& other) noexcept;
  ~CommandList();

  /// Runs after everything handed to its queue before, and after `after` of the other queue. A list that is
  /// still running is waited for first.
  [[nodiscard]] Result<Ticket> submit(Ticket after = 0);
  /// This list and then the other, in one call to the driver.
  [[nodiscard]] Status submit_with(CommandList& next);
  /// What the last submit() gave; 0 before the first.
  [[nodiscard]] Ticket ticket() const { return last_; }
  [[nodiscard]] bool is_recorded() const { return commands_ != VK_NULL_HANDLE; }
  /// submit() and wait.
  [[nodiscard]] Status run();

 private:
  friend class Recorder;
  std::shared_ptr<Device> device_;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  QueueKind queue_ = QueueKind::kCompute;
  Ticket last_ = 0;
};

class Recorder {
 public:
  /// A list of the transfer queue has copies and no barriers; other work waits for it by its ticket.
  static Result<Recorder> begin(std::shared_ptr<Device> device, QueueKind queue = QueueKind::kCompute);

  /// `push` is the shader's push constant block, at most kPushBytes. No group is no work.
  template <class Push>
  void dispatch(const Pipeline& pipeline, const Push& push, Groups groups) {
    static_assert(sizeof(Push) <= kPushBytes && sizeof(Push) % 4 == 0);
    dispatch(pipeline, std::as_bytes(std::span(&push, 1)), groups);
  }
  /// The three group counts are read from `groups` when the list runs.
  template <class Push>
  void dispatch_indirect(const Pipeline& pipeline, const Push& push, const Span& groups) {
    static_assert(sizeof(Push) <= kPushBytes && sizeof(Push) % 4 == 0);
    dispatch_indirect(pipeline, std::as_bytes(std::span(&push, 1)), groups);
  }
  void copy(const Span& from, const Span& to);
  /// Every 4 bytes become `word`; size and offset are multiples of 4.
  void fill(const Span& span, uint32_t word);
  /// What comes after sees what came before. Between two of them, dispatches may overlap.
  void barrier();

  [[nodiscard]] Result<CommandList> finish();

 private:
  void dispatch(const Pipeline& pipeline, std::span<const std::byte> push, Groups groups);
  void dispatch_indirect(const Pipeline& pipeline, std::span<const std::byte> push, const Span& groups);
  void bind(const Pipeline& pipeline, std::span<const std::byte> push);
  CommandList list_;
  VkPipeline bound_ = VK_NULL_HANDLE;
};

}  // namespace packmule::vulkan
