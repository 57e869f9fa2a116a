// Strips: sixteen rows of packed blocks, interleaved so that a vector lane is a row.
//
// A block is cut into dwords of four bytes and, in formats whose size is no multiple of four, one odd unit of
// two (or one) bytes, which stands at the block's beginning or end. A strip of n_cols columns holds the same
// bytes as its sixteen rows did, in another order:
//
//   odds    [block][row 0..15]
//   dwords  [block][dword of the block][row 0..15]   64 bytes for each dword
//
// The dwords of a block stand in the order in which a kernel first needs them (strip_place): memory is then
// read in one direction, the only one that the processor's prefetchers follow at full speed.
//
// Four neighbouring codes of a row are a dword of activations wide, so a product with them is one instruction
// for all sixteen rows, and the sum over a group of columns needs no sums across lanes.
#pragma once

#include <cstdint>

#include "quant/format.h"

namespace packmule::kernels {

inline constexpr int64_t kStripRows = 16;

struct StripLayout {
  int n_dwords = 0;        // of a block; 0: the format is not interleaved
  int odd_bytes = 0;       // 0, 1 or 2
  bool odd_first = false;  // the odd unit is the block's first bytes, not its last
};

constexpr StripLayout strip_layout(quant::Type type) {
  using quant::Type;
  switch (type) {
    case Type::kQ4_0:
    case Type::kIQ4_NL:
      return {4, 2, true};
    case Type::kQ4_1:
      return {5, 0, false};
    case Type::kQ5_0:
      return {5, 2, true};
    case Type::kQ5_1:
      return {6, 0, false};
    case Type::kQ8_0:
      return {8, 2, true};
    case Type::kMXFP4:
      return {4, 1, true};
    case Type::kNVFP4:
      return {9, 0, false};
    case Type::kQ2_K:
      return {21, 0, false};
    case Type::kQ3_K:
      return {27, 2, false};
    case Type::kQ4_K:
      return {36, 0, false};
    case Type::kQ5_K:
      return {44, 0, false};
    case Type::kQ6_K:
      return {52, 2, false};
    case Type::kIQ4_XS:
      return {34, 0, false};
    case Type::kTQ1_0:
      return {13, 2, false};
    case Type::kTQ2_0:
      return {16, 2, false};
    default:
      return {};  // elements and codebook formats
  }
}

/// Which dword of a block in a strip holds dword i of the block in the file.
constexpr int strip_place(quant::Type type, int i) {
  using quant::Type;
  switch (type) {
    case Type::kQ2_K:  // scales (4), codes (16), d and dmin
      return i == 20 ? 0 : i + 1;
    case Type::kQ3_K:  // high bits (8), codes (16), scales (3)
      return i >= 24 ? i - 24 : i < 8 ? 4 + 2 * i : i < 16 ? 3 + 2 * (i - 8) : i + 3;
    case Type::kQ5_K:  // d and dmin, scales (3), high bits (8), codes (32)
      return i < 4 || i >= 20 ? i : i < 12 ? 4 + 2 * (i - 4) : 5 + 2 * (i - 12);
    case Type::kQ6_K: {  // low bits (32), high bits (16), scales (4), half a block's after the other's
      if (i >= 48) return 26 * ((i - 48) / 2) + 16 + i % 2;
      if (i >= 32) return 26 * ((i - 32) / 8) + 2 * (i % 8) + 1;
      return 26 * (i / 16) + (i % 16 < 8 ? 2 * (i % 8) : 18 + i % 8);
    }
    default:
      return i;
  }
}

}  // namespace packmule::kernels
