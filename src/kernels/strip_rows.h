// Strips back to rows, for those who read the file's layout (devices).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "quant/format.h"

namespace packmule::kernels {

/// The inverse of Matmul::interleave (kernels.h) into rows that follow each other: kStripRows rows of n_cols
/// elements, byte for byte as in the file. The format must have strips (strip_layout.h).
void rows_of_strip(quant::Type type, const void* strip, int64_t n_cols, void* rows);

/// Copies matrices of one shape and type, in strips or not, as rows, by all threads of a pool.
class RowCopier {
 public:
  RowCopier(quant::Type type, int64_t n_rows, int64_t n_cols, bool in_strips, int n_threads);
  [[nodiscard]] int64_t matrix_bytes() const { return matrix_bytes_; }
  /// n matrices, `from_stride` bytes from one to the next, to `to`, where they are `to_stride` bytes apart.
  /// Every byte is written once and in ascending order within some rows: memory that is written past the
  /// caches likes that.
  void copy(ThreadPool& pool, const std::byte* from, int64_t from_stride, int64_t n, std::byte* to,
            int64_t to_stride) const;

 private:
  quant::Type type_;
  int64_t n_cols_;
  int64_t matrix_bytes_;
  int64_t unit_bytes_;                                // that a thread copies at once
  mutable std::vector<std::vector<std::byte>> rows_;  // of a strip, for each thread; empty: not in strips
};

}  // namespace packmule::kernels
