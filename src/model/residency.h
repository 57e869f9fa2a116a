// Where the bytes of matrices are while a model runs: in the mapped file, or in memory of our own.
//
// Memory of our own is on huge pages where the system grants them, and is what strips
// (kernels/strip_layout.h) need. It is filled by all threads, and what has been read is given back to the
// system piece by piece, so that a model never takes its size twice.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "base/system_memory.h"
#include "base/thread_pool.h"
#include "gguf/file.h"
#include "kernels/kernels.h"

namespace packmule::model {

enum class LoadMode {
  kAuto,    // repack if that fits into the memory that is available, else mmap
  kMmap,    // used where the file is mapped: starts at once, needs no memory of its own, slowest
  kCopy,    // copied as they are
  kRepack,  // copied, formats that have strips in strips: fastest
};
[[nodiscard]] std::string_view load_mode_name(LoadMode mode);

class Residency {
 public:
  Residency() = default;

  /// Chooses between the modes for kAuto. An error, with the numbers, when memory for the tensors of `file`
  /// is not available. `can_repack`: whether the kernels have strips. `elsewhere_bytes` of the tensors are
  /// not placed here.
  static Result<Residency> create(const gguf::File& file, LoadMode mode, bool can_repack,
                                  int64_t elsewhere_bytes = 0,
                                  int64_t available_bytes = available_memory_bytes());

  [[nodiscard]] LoadMode mode() const { return mode_; }
  /// Memory of our own, of matrices placed so far.
  [[nodiscard]] int64_t used_bytes() const { return used_; }

  /// Where the tensor's bytes will be after load(); with `interleave` in strips. Once for each tensor.
  const std::byte* place(const gguf::TensorInfo& tensor, kernels::InterleaveFn interleave);
  /// Fills what was placed.
  void load(const gguf::File& file, ThreadPool& pool);

 private:
  /// Some rows of a tensor, at most kPieceBytes of them or one strip.
  struct Piece {
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
    int64_t n_bytes = 0;
    int64_t row_bytes = 0;
    int64_t n_cols = 0;
    kernels::InterleaveFn interleave = nullptr;  // null: copied
  };

  LoadMode mode_ = LoadMode::kMmap;
  AlignedBuffer memory_;
  int64_t used_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace packmule::model
