// The twelve bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit minima.
//
//   byte s[g], g 0-3      bits 0-5: scale of group g           bits 6-7: upper bits of the scale of group g +
//   4 byte s[4 + g]         bits 0-5: minimum of group g         bits 6-7: upper bits of the minimum of group
//   g + 4 byte s[8 + g]         bits 0-3: low bits of the scale of group g + 4, bits 4-7: of its minimum
//
// The functions are static so that files compiled for another instruction set may include them.
#pragma once

#include <cstdint>

namespace packmule::quant {

inline constexpr int kScaleGroups = 8;

struct KScale {
  uint8_t scale;    // 0..63
  uint8_t minimum;  // 0..63
};

[[nodiscard]] static inline KScale get_k_scale(const uint8_t* s, int group) {
  if (group < 4) return {static_cast<uint8_t>(s[group] & 63), static_cast<uint8_t>(s[group + 4] & 63)};
  return {static_cast<uint8_t>((s[group + 4] & 15) | (s[group - 4] >> 6) << 4),
          static_cast<uint8_t>(s[group + 4] >> 4 | (s[group] >> 6) << 4)};
}

static inline void set_k_scale(uint8_t* s, int group, KScale value) {
  if (group < 4) {
    s[group] = static_cast<uint8_t>((s[group] & 0xc0) | value.scale);
    s[group + 4] = static_cast<uint8_t>((s[group + 4] & 0xc0) | value.minimum);
  } else {
    s[group + 4] = static_cast<uint8_t>((value.scale & 15) | (value.minimum & 15) << 4);
    s[group - 4] = static_cast<uint8_t>((s[group - 4] & 63) | value.scale >> 4 << 6);
    s[group] = static_cast<uint8_t>((s[group] & 63) | value.minimum >> 4 << 6);
  }
}

}  // namespace packmule::quant
