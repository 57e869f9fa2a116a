// F32, F16 (IEEE binary16) and BF16 (upper half of a float32): one value a "block".
//
// The 16-bit encoders round to nearest, ties to even; NaN stays NaN and what is too large becomes infinity.
#pragma once

#include <cstdint>

namespace packmule::quant {

void decode_f32(const void* blocks, float* out, int64_t n_elems);
void decode_f16(const void* blocks, float* out, int64_t n_elems);
void decode_bf16(const void* blocks, float* out, int64_t n_elems);

// Importance is ignored: nothing is left to choose.
void encode_f32(const float* in, const float* importance, void* blocks, int64_t n_elems);
void encode_f16(const float* in, const float* importance, void* blocks, int64_t n_elems);
void encode_bf16(const float* in, const float* importance, void* blocks, int64_t n_elems);

}  // namespace packmule::quant
