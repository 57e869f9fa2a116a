// KV pages and recurrent states of a model's layers in a device's memory.
//
// A page holds the device's attention layers as a page of the host holds its own (cache/sequence.h): layer by
// layer, K then V, head by head. Pages are cut out of arenas; shaders find them by a table of addresses. The
// state of a sequence is one buffer: all S of the device's DeltaNet layers, then all convolution histories. A
// kept state is a buffer of the same kind in the host's memory, which the device copies to and from: keeping
// one costs a copy over the bus and no device memory. Where both sides have one memory it counts in the
// device's budget, and is refused before it would take what the work at hand may need.
//
// What goes to files and comes from them passes through staging buffers (pages) or is read where it lies
// (kept states). It is asked for between two passes of the model, by the thread that runs it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cache/device_memory.h"
#include "cache/layout.h"
#include "cache/recurrent_state.h"
#include "runtime/gpu.h"
#include "vulkan/exchange.h"
#include "vulkan/memory.h"

namespace packmule::runtime {

class DeviceCaches final : public cache::DeviceMemory {
 public:
  DeviceCaches(std::shared_ptr<Gpu> gpu, const cache::Layout& layout);

  class DeviceState final : public State {
   public:
    /// Unlike that of any other state: what was recorded for one is of no use for another.
    int64_t id = 0;
    const DeviceCaches* owner = nullptr;
    vulkan::Buffer buffer;  // without memory when no DeltaNet layer is the device's
  };

  Result<std::unique_ptr<State>> new_state(Use use) override;
  void clear(State& state) override;
  void copy(const State& from, State& to) override;
  Status allocate_pages(int64_t n_pages) override;
  void copy_page(int64_t from, int64_t to) override;
  Status read_pages(std::span<const Piece<std::byte>> pieces) override;
  Status write_pages(std::span<const Piece<const std::byte>> pieces) override;
  Result<std::span<std::byte>> view(State& kept) override;

  /// S [nv, dk, dv] and history [taps - 1, channels] of a layer.
  [[nodiscard]] vulkan::Span state(const DeviceState& state, int layer) const;
  [[nodiscard]] vulkan::Span history(const DeviceState& state, int layer) const;
  [[nodiscard]] bool has_pages() const { return shape_->n_attention > 0; }
  [[nodiscard]] uint64_t page_address(int64_t page) const {
    return pages_.span(static_cast<int>(page)).address;
  }

  /// Bytes from a page's start to the K and V of a layer.
  static int64_t k_offset(const cache::Layout& layout, int layer);
  static int64_t v_offset(const cache::Layout& layout, int layer);
  static int64_t page_bytes(const cache::Layout& layout) {
    return layout.kv_bytes_per_token(true) * cache::kPageTokens;
  }
  static int64_t state_bytes(const cache::Layout& layout);

  /// Of a shared memory, what kept states leave to others: staging for files, page tables that grow.
  static constexpr int64_t kLeftByKeptStates = 32 << 20;

 private:
  template <class Record>
  void attempt(Record record);
  template <class Byte>
  Result<std::vector<vulkan::Exchange::Piece<Byte>>> prepare(std::span<const Piece<Byte>> pieces);

  std::shared_ptr<Gpu> gpu_;
  cache::Layout layout_;
  std::shared_ptr<const cache::StateShape> shape_;
  vulkan::Arenas pages_;
  std::optional<vulkan::Exchange> exchange_;  // made when it is needed
  Status copied_;                             // an error: of the first copy that failed
};

}  // namespace packmule::runtime
