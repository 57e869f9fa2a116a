// How the IQ2 and IQ3 decoders write one codebook entry.
#pragma once

#include <cstdint>

namespace packmule::quant {

/// Writes the bytes of a grid entry, times scale; bit i of signs makes weight i negative.
template <class Word>
void write_signed_grid(Word grid, unsigned signs, float scale, float* y) {
  for (int i = 0; i < static_cast<int>(sizeof(Word)); ++i) {
    const float magnitude = scale * static_cast<float>(grid >> (8 * i) & 255);
    y[i] = (signs >> i & 1) != 0 ? -magnitude : magnitude;
  }
}

}  // namespace packmule::quant
