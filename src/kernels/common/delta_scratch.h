// How the chunked delta rule uses its scratch; delta_scratch_floats() adds it up.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

/// Columns of the state that go through a chunk together: at most this many (a variant may take fewer).
constexpr int64_t kDeltaPanelCols = 64;

/// K transposed [dk, 64]; two [64, 64] matrices between the tokens of a chunk; a panel of S [dk, 64] and two
/// panels [64, 64] of corrections and outputs.
constexpr int64_t delta_scratch_total(int64_t dk) {
  return dk * kDeltaChunk + 2 * kDeltaChunk * kDeltaChunk + (dk + 2 * kDeltaChunk) * kDeltaPanelCols;
}

}  // namespace
}  // namespace packmule::kernels
