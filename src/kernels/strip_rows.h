// Strips back to rows, for those who read the file's layout (devices).
#pragma once

#include <cstdint>

#include "quant/format.h"

namespace packmule::kernels {

/// The inverse of Matmul::interleave (kernels.h) into rows that follow each other: kStripRows rows of n_cols
/// elements, byte for byte as in the file. The format must have strips (strip_layout.h).
void rows_of_strip(quant::Type type, const void* strip, int64_t n_cols, void* rows);

}  // namespace packmule::kernels
