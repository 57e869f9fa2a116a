// Caches of layers that a graphics device computes: what a page pool and its sequences ask of the memory they
// cannot reach themselves.
//
// Pages keep their numbers: page n of the pool has a part on the host, for the layers of the host, and a part
// on the device, and both are taken, shared and given back together. So who holds a page, and what is copied
// when one is written, is decided in one place (sequence.h), and a device only stores. A recurrent state
// likewise is one object of two parts.
//
// Copies on the device report no errors: a device that is lost shows in the next forward pass, which fails.
// Then, and whenever a copy has failed, nothing comes back to the host either: what leaves memory for a file
// is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace packmule::cache {

class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  enum class Use {
    kLive,  // of a sequence: in the device's own memory
    kKept,  // a checkpoint: where the device reaches it and its own memory is not taken
  };
  /// Recurrent and convolution state of all layers of the device.
  class State {
   public:
    virtual ~State() = default;
  };

  /// All zero. An error (kOutOfMemory) when there is no room.
  [[nodiscard]] virtual Result<std::unique_ptr<State>> new_state(Use use) = 0;
  virtual void clear(State& state) = 0;
  virtual void copy(const State& from, State& to) = 0;
  /// Takes memory for pages 0 to n - 1, all zero; once.
  [[nodiscard]] virtual Status allocate_pages(int64_t n_pages) = 0;
  virtual void copy_page(int64_t from, int64_t to) = 0;

  /// Bytes of a page's part on the device, from `offset` on, and their place on the host.
  template <class Byte>
  struct Piece {
    int64_t page = 0;
    int64_t offset = 0;  // a multiple of 4, like the number of bytes
    std::span<Byte> host;
  };
  /// Copied in few, large pieces of work, whatever they are here.
  [[nodiscard]] virtual Status read_pages(std::span<const Piece<std::byte>> pieces) = 0;
  [[nodiscard]] virtual Status write_pages(std::span<const Piece<const std::byte>> pieces) = 0;
  /// A kept state as the host sees it: S of all layers of the device, then all convolution histories. The
  /// device has done what it was asked to do with it. Valid until it is asked for more.
  [[nodiscard]] virtual Result<std::span<std::byte>> view(State& kept) = 0;
};

}  // namespace packmule::cache
