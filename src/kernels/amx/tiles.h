// The tile instructions of AMX, one function each.
//
// Eight tile registers of at most 16 rows of 64 bytes; a configuration says how many of each a tile has. They
// are written as assembler because g++ 12 has them only as macros that want literal numbers.
// (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.)
#pragma once

#include <cstdint>

#include "kernels/amx/tile_config.h"

namespace packmule::kernels {
namespace {

inline void tile_configure(const TileConfig& config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}
/// Back to the state in which the system need not save any tile.
inline void tile_release() {
  asm volatile("tilerelease");
}
template <int kTile>
[[gnu::always_inline]] inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
/// Rows from `from`, stride_bytes apart.
template <int kTile>
[[gnu::always_inline]] inline void tile_load(const void* from, int64_t stride_bytes) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(from), "r"(stride_bytes) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void tile_store(void* to, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(to), "r"(stride_bytes) : "memory");
}
/// Dwords sum[m][n] += sum over k and j < 4 of a[m][4k + j] * b[k][4n + j], all signed bytes.
template <int kSum, int kA, int kB>
[[gnu::always_inline]] inline void tile_multiply() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace packmule::kernels
