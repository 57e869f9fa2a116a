// How the strip matmuls use their scratch; matmul_scratch_floats() makes room for it.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

/// Groups of 32 columns that are worked on at once: what a tile reads stays in a first-level cache of 32 KiB.
constexpr int64_t kChunkGroups = 16;
/// Tokens that meet a panel before it is given up; their sums wait in scratch.
constexpr int64_t kTokenBlock = 128;
/// Floats from one token's sums to the next: rows of the widest tile.
constexpr int64_t kSumStride = 32;

constexpr int64_t kStripChunkBytes = kChunkGroups * 544;     // sixteen rows of Q8_0, the widest format
constexpr int64_t kPanelBytes = 2 * kChunkGroups * 64 * 12;  // two strips: codes, two scales, two offsets
constexpr int64_t kSumBytes = kTokenBlock * kSumStride * 4;
constexpr int64_t kStripScratchAlign = 64;
constexpr int64_t kTokenCopyBytes = 16 * kChunkGroups * sizeof(QuantizedGroup);  // for tiles of 16 tokens
constexpr int64_t kStripScratchBytes =
    kStripScratchAlign + kStripChunkBytes + kPanelBytes + kSumBytes + kTokenCopyBytes;

/// The parts, cut from a caller's scratch.
struct StripScratch {
  explicit StripScratch(float* scratch) {
    const auto address = reinterpret_cast<uintptr_t>(scratch);
    strip = reinterpret_cast<uint8_t*>((address + kStripScratchAlign - 1) / kStripScratchAlign *
                                       kStripScratchAlign);
    panel = strip + kStripChunkBytes;
    sums = reinterpret_cast<float*>(panel + kPanelBytes);
    tokens = reinterpret_cast<QuantizedGroup*>(panel + kPanelBytes + kSumBytes);
  }
  uint8_t* strip;
  uint8_t* panel;
  float* sums;
  QuantizedGroup* tokens;
};

}  // namespace
}  // namespace packmule::kernels
