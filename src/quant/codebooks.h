// The codebooks of the IQ formats and the value tables of the 4-bit ones.
//
// A grid entry holds the values of 8 (or 4) consecutive weights as bytes of one integer, lowest weight in the
// lowest byte, ready to be loaded into a vector register. All numbers are ggml's (MIT licence).
#pragma once

#include <cstddef>
#include <cstdint>

namespace packmule::quant {

/// A plain array that a constant expression can return.
template <class T, size_t N>
struct Codebook {
  T at[N];
};

// Magnitudes 8, 25, 43; eight weights an entry.
extern const Codebook<uint64_t, 256> kIq2XxsGrid;
extern const Codebook<uint64_t, 512> kIq2XsGrid;
extern const Codebook<uint64_t, 1024> kIq2SGrid;
// Magnitudes 4..62 and odd 1..15; four weights an entry.
extern const Codebook<uint32_t, 256> kIq3XxsGrid;
extern const Codebook<uint32_t, 512> kIq3SGrid;
// Signed values -1, 0, 1 as int8; eight weights an entry. Used by IQ1_S and IQ1_M.
extern const Codebook<uint64_t, 2048> kIq1SGrid;
/// What IQ1_S and IQ1_M add to (or take from) every grid value.
inline constexpr float kIq1Delta = 0.125f;

/// Signs of eight weights from seven bits: bit i set = weight i is negative; bit 7 makes the count even.
extern const Codebook<uint8_t, 128> kIq2Signs;

/// Values of the 4-bit codes of IQ4_NL and IQ4_XS.
constexpr Codebook<int8_t, 16> kIq4Values = {
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};
/// Twice the FP4 (E2M1) values: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. MXFP4 and NVFP4.
constexpr Codebook<int8_t, 16> kFp4DoubledValues = {
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}};

}  // namespace packmule::quant
