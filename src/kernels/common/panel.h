// How large a panel of decoded rows is: the scratch of a matmul. Shared by the ISA files and the function
// that tells callers its size, hence everything here is of internal linkage.
#pragma once

#include <cstdint>

namespace packmule::kernels {
namespace {

/// Rows of a panel come in multiples of this, so that every register tile divides it.
constexpr int64_t kPanelRowMultiple = 12;
constexpr int64_t kPanelMaxRows = 96;

/// Columns are padded with zeros to the widest vector.
constexpr int64_t panel_row_floats(int64_t n_cols) {
  return (n_cols + 15) / 16 * 16;
}

/// 192 KiB of weights stay in a 512 KiB second-level cache while the tokens stream past.
constexpr int64_t panel_rows(int64_t n_cols) {
  constexpr int64_t kFloats = 48 * 1024;
  const int64_t fitting = kFloats / (n_cols > 0 ? panel_row_floats(n_cols) : 16);
  const int64_t rows =
      (fitting < kPanelMaxRows ? fitting : kPanelMaxRows) / kPanelRowMultiple * kPanelRowMultiple;
  return rows > kPanelRowMultiple ? rows : kPanelRowMultiple;
}

}  // namespace
}  // namespace packmule::kernels
