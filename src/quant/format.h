// The one table of block formats (GGUF tensor types).
//
// A format stores `block_elems` consecutive weights of a row in `block_bytes` bytes. Everything the rest of
// the program knows about a format is in its row here: adding one means one file in this folder, a row in
// format.cpp, a decoder for the CPU kernels and one for the shaders, and its test data.
//
// Source of the layouts: the GGUF specification and ggml; each format's own file draws its layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace packmule::quant {

/// Values are the type ids stored in GGUF files.
enum class Type : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
};

/// One past the largest type id in the table: the size of an array indexed by type id.
inline constexpr size_t kTypeIdLimit = 41;

/// Decodes n_elems weights (a multiple of block_elems) to float32: the bits of the reference decoder.
using DecodeFn = void (*)(const void* blocks, float* out, int64_t n_elems);

/// Encodes n_elems weights (a multiple of block_elems). `importance` is one weight per element for formats
/// that use it, or null.
using EncodeFn = void (*)(const float* in, const float* importance, void* blocks, int64_t n_elems);

struct Format {
  Type type;
  std::string_view name;  // "Q4_K", as GGUF tools print it
  int32_t block_elems;
  int32_t block_bytes;
  DecodeFn decode;
  EncodeFn encode;  // null: packmule cannot write this format
  bool kv_cache;    // may hold a KV cache (--cache-type-k, --cache-type-v)
};

/// All formats, by ascending type id.
[[nodiscard]] std::span<const Format> formats();

/// Row of the table, or null for an id packmule does not know.
[[nodiscard]] const Format* find_format(uint32_t type_id);
[[nodiscard]] const Format& format_of(Type type);
/// By name, in any case ("q4_K", "iq4_nl"); null when unknown.
[[nodiscard]] const Format* find_format(std::string_view name);

/// Bytes of a row of n_elems weights; n_elems must be a multiple of the block.
[[nodiscard]] inline int64_t row_bytes(const Format& format, int64_t n_elems) {
  return n_elems / format.block_elems * format.block_bytes;
}

}  // namespace packmule::quant
