// What all block structs share.
//
// A struct is the file's bytes: members are little-endian, without padding, and need at most the alignment of
// uint16_t, so a row of blocks may start at any even address.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace packmule::quant {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie in the file");

/// Weights per block of the formats with 32-weight blocks and of those with 256.
inline constexpr int kSmallBlock = 32;
inline constexpr int kSuperBlock = 256;

/// A float16 as its bits: base/half.h converts.
using HalfBits = uint16_t;

}  // namespace packmule::quant
