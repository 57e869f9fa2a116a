// Memory for weights, caches and activations: aligned, zeroed, and on huge pages where the system grants
// them.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"

namespace packmule {

/// Owns `size_bytes` of zeroed memory from the system (mmap). Pages are committed when first touched, so a
/// large cache costs only what is used of it. Aligned to 2 MiB when that large, else to a page.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept { *this = std::move(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer();

  /// `what` names the buffer in the error ("KV cache").
  static Result<AlignedBuffer> allocate(size_t size_bytes, const char* what);

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t size_bytes() const { return size_bytes_; }
  template <class T>
  [[nodiscard]] std::span<T> as() const {
    return {reinterpret_cast<T*>(data_), size_bytes_ / sizeof(T)};
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
  void* mapping_ = nullptr;  // what munmap wants back; data_ may lie further in, on a 2 MiB boundary
  size_t mapping_bytes_ = 0;
};

}  // namespace packmule
