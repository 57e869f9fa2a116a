#include "quant/floats.h"

#include <cstring>

#include "base/half.h"

namespace packmule::quant {

void decode_f32(const void* blocks, float* out, int64_t n_elems) {
  if (n_elems != 0) std::memcpy(out, blocks, static_cast<size_t>(n_elems) * sizeof(float));
}

void decode_f16(const void* blocks, float* out, int64_t n_elems) {
  const uint16_t* values = static_cast<const uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) out[i] = half_to_float(values[i]);
}

void decode_bf16(const void* blocks, float* out, int64_t n_elems) {
  const uint16_t* values = static_cast<const uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) out[i] = bf16_to_float(values[i]);
}

void encode_f32(const float* in, const float*, void* blocks, int64_t n_elems) {
  if (n_elems != 0) std::memcpy(blocks, in, static_cast<size_t>(n_elems) * sizeof(float));
}

void encode_f16(const float* in, const float*, void* blocks, int64_t n_elems) {
  uint16_t* values = static_cast<uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) values[i] = float_to_half(in[i]);
}

void encode_bf16(const float* in, const float*, void* blocks, int64_t n_elems) {
  uint16_t* values = static_cast<uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) values[i] = float_to_bf16(in[i]);
}

}  // namespace packmule::quant
