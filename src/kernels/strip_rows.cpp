#include "kernels/strip_rows.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "kernels/strip_layout.h"

namespace packmule::kernels {
namespace {

constexpr int kMostDwords = 52;
using Words = uint32_t __attribute__((vector_size(16)));

/// Four dwords of four rows, crosswise: a store is then sixteen bytes of a row.
void copy_4_by_4(const std::byte* const (&from)[4], int row, std::byte* to, int64_t row_bytes) {
  Words of[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&of[i], from[i] + 4 * row, sizeof(Words));
  const Words low_a = __builtin_shufflevector(of[0], of[1], 0, 4, 1, 5);
  const Words low_b = __builtin_shufflevector(of[2], of[3], 0, 4, 1, 5);
  const Words high_a = __builtin_shufflevector(of[0], of[1], 2, 6, 3, 7);
  const Words high_b = __builtin_shufflevector(of[2], of[3], 2, 6, 3, 7);
  const Words of_row[4] = {__builtin_shufflevector(low_a, low_b, 0, 1, 4, 5),
                           __builtin_shufflevector(low_a, low_b, 2, 3, 6, 7),
                           __builtin_shufflevector(high_a, high_b, 0, 1, 4, 5),
                           __builtin_shufflevector(high_a, high_b, 2, 3, 6, 7)};
  for (int r = 0; r < 4; ++r) std::memcpy(to + r * row_bytes, &of_row[r], sizeof(Words));
}

}  // namespace

void rows_of_strip(quant::Type type, const void* strip, int64_t n_cols, void* rows) {
  const StripLayout layout = strip_layout(type);
  const quant::Format& format = quant::format_of(type);
  const int64_t n_blocks = n_cols / format.block_elems, row_bytes = n_blocks * format.block_bytes;
  std::array<int, kMostDwords> place{};  // bytes from a block's dwords on
  for (int i = 0; i < layout.n_dwords; ++i)
    place[static_cast<size_t>(i)] = 4 * static_cast<int>(kStripRows) * strip_place(type, i);

  const auto* odds = static_cast<const std::byte*>(strip);
  const std::byte* dwords = odds + n_blocks * kStripRows * layout.odd_bytes;
  auto* block = static_cast<std::byte*>(rows);
  for (int64_t b = 0; b < n_blocks; ++b) {
    std::byte* const to = block + (layout.odd_first ? layout.odd_bytes : 0);
    for (int i = 0; i < layout.n_dwords; i += 4) {
      const int at = i + 4 <= layout.n_dwords ? i : layout.n_dwords - 4;  // may overlap those before
      const std::byte* from[4];
      for (int j = 0; j < 4; ++j) from[j] = dwords + place[static_cast<size_t>(at + j)];
      for (int row = 0; row < kStripRows; row += 4)
        copy_4_by_4(from, row, to + row * row_bytes + 4 * at, row_bytes);
    }
    std::byte* const odd = block + (layout.odd_first ? 0 : 4 * layout.n_dwords);
    for (int row = 0; row < kStripRows && layout.odd_bytes > 0; ++row)
      std::memcpy(odd + row * row_bytes, odds + row * layout.odd_bytes,
                  static_cast<size_t>(layout.odd_bytes));
    odds += kStripRows * layout.odd_bytes;
    dwords += 4 * kStripRows * layout.n_dwords;
    block += format.block_bytes;
  }
}

RowCopier::RowCopier(quant::Type type, int64_t n_rows, int64_t n_cols, bool in_strips, int n_threads)
    : type_(type), n_cols_(n_cols), matrix_bytes_(n_rows * quant::row_bytes(quant::format_of(type), n_cols)) {
  // Large enough not to be counted, small enough that all threads have some.
  constexpr int64_t kCopyBytes = int64_t{128} << 10;
  unit_bytes_ = in_strips ? kStripRows * (matrix_bytes_ / n_rows) : kCopyBytes;
  if (in_strips)
    rows_.resize(static_cast<size_t>(n_threads), std::vector<std::byte>(static_cast<size_t>(unit_bytes_)));
}

void RowCopier::copy(ThreadPool& pool, const std::byte* from, int64_t from_stride, int64_t n, std::byte* to,
                     int64_t to_stride) const {
  const int64_t n_units = (matrix_bytes_ + unit_bytes_ - 1) / unit_bytes_;
  pool.run(n * n_units, [&](int64_t item, int worker) {
    const int64_t matrix = item / n_units, at = item % n_units * unit_bytes_;
    const std::byte* bytes = from + matrix * from_stride + at;
    if (!rows_.empty()) {
      std::vector<std::byte>& rows = rows_[static_cast<size_t>(worker)];
      rows_of_strip(type_, bytes, n_cols_, rows.data());
      bytes = rows.data();
    }
    std::memcpy(to + matrix * to_stride + at, bytes,
                static_cast<size_t>(std::min(unit_bytes_, matrix_bytes_ - at)));
  });
}

}  // namespace packmule::kernels
