// How the chunked delta rule uses its scratch; delta_scratch_floats() adds it up.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

/// Columns of the state that go through a chunk together: at most this many (a variant may take fewer).
constexpr int64_t kDeltaPanelCols = 32;

/// K and Q of a chunk [2 * 64, dk] and K transposed [dk, 64]; two [64, 64] matrices between its tokens; a
/// panel of S [dk, 32], one of corrections and outputs [2 * 64, 32].
constexpr int64_t delta_scratch_total(int64_t dk) {
  return 3 * kDeltaChunk * dk + 2 * kDeltaChunk * kDeltaChunk + (dk + 2 * kDeltaChunk) * kDeltaPanelCols;
}

}  // namespace
}  // namespace packmule::kernels
