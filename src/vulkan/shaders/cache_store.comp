#version 460
// Rows of K or V encoded in the cache's format, at their places in the pages of a sequence (attention.comp says where).
// An invocation has 32 values of a row; gl_WorkGroupID.y is the KV head, z the token. The rules are those of
// quant/<format>.cpp without importance.
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint FORMAT = 1u;
#include "memory.glsl"
#include "blocks.glsl"

const uint PAGE = 64u;
layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer Pages { uvec2 at[]; };
layout(push_constant) uniform Push {
  Floats x;
  Ints positions;  // [n_tokens]
  Pages pages;
  uint head_dim, x_stride, offset, row_bytes;
};

/// Nearest, halves to even: packHalf2x16 may round otherwise.
uint float_to_half(float value) {
  const uint bits = floatBitsToUint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {
    precise float shifted = uintBitsToFloat(magnitude) + 0.5;
    return sign | (floatBitsToUint(shifted) - 0x3f000000u);
  }
  return sign | (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
}
uint float_to_bf16(float value) {
  const uint bits = floatBitsToUint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
uint scale_to_half(float scale) { return isnan(scale) ? 0u : float_to_half(clamp(scale, -65504.0, 65504.0)); }
float inverse_or_zero(float scale) { return scale != 0.0 ? 1.0 / scale : 0.0; }

float value[32];
uint word[33];  // the encoded bytes; one more for bytes that begin in the middle of a word

void set_u16(uint at, uint bits) { word[at >> 1] |= bits << (16u * (at & 1u)); }
void set_u8(uint at, uint bits) { word[at >> 2] |= bits << (8u * (at & 3u)); }

/// The value of largest magnitude, with its sign; of two the first.
float extreme_value() {
  float low = 0.0, high = 0.0;
  for (uint i = 0u; i < 32u; ++i) {
    low = value[i] < low ? value[i] : low;
    high = value[i] > high ? value[i] : high;
  }
  float extreme = high > -low ? high : low;
  if (high == -low)
    for (int i = 31; i >= 0; --i)
      if (abs(value[i]) == high) extreme = value[i];
  return extreme;
}

/// Codes 0 to 2 * centre - 1 for code - centre, or 0 to `largest` from the least value on.
void encode_blocks(float centre, float largest, bool fifth_bits) {
  float low = 0.0;
  precise float d;
  if (centre > 0.0) {
    d = extreme_value() / -centre;  // it becomes code 0
  } else {
    low = 3.402823466e38;
    float high = -low;
    for (uint i = 0u; i < 32u; ++i) {
      low = value[i] < low ? value[i] : low;
      high = value[i] > high ? value[i] : high;
    }
    d = (high - low) / largest;
  }
  const float inverse = inverse_or_zero(d);
  set_u16(0u, scale_to_half(d));
  if (centre == 0.0) set_u16(1u, scale_to_half(low));
  const uint bits_at = centre > 0.0 ? 2u : 4u, q = fifth_bits ? bits_at + 4u : bits_at;
  for (uint i = 0u; i < 32u; ++i) {
    precise float scaled = centre > 0.0 ? value[i] * inverse : (value[i] - low) * inverse;
    scaled += centre + 0.5;
    const float below = scaled < largest ? scaled : largest;
    const uint code = uint(below > 0.0 ? below : 0.0);
    set_u8(q + (i & 15u), (code & 15u) << (4u * (i >> 4)));
    if (fifth_bits) set_u8(bits_at + (i >> 3), (code >> 4) << (i & 7u));
  }
}

void encode_q8_0() {
  precise float d = abs(extreme_value()) / 127.0;
  const float inverse = inverse_or_zero(d);
  set_u16(0u, scale_to_half(d));
  for (uint i = 0u; i < 32u; ++i) {
    precise float scaled = value[i] * inverse;
    const float held = clamp(scaled, -127.0, 127.0);
    const float whole = trunc(held), rest = held - whole;  // halves away from zero
    const int code = int(whole) + (rest >= 0.5 ? 1 : 0) - (rest <= -0.5 ? 1 : 0);
    set_u8(2u + i, uint(code) & 255u);
  }
}

int iq4_value(uint code) { return bitfieldExtract(int(kIq4Values[code >> 2]), int(8u * (code & 3u)), 8); }
/// The nearest value's code, the higher one of two: twice a value and the sum of two neighbours are compared.
uint iq4_code(float x) {
  uint code = 0u;
  for (uint c = 0u; c < 15u; ++c)
    if (2.0 * x >= float(iq4_value(c) + iq4_value(c + 1u))) code = c + 1u;
  return code;
}

/// The best of sixteen scales around the one that maps the extreme value to an end, each improved by a least squares
/// step; large values weigh more.
void encode_iq4_nl() {
  const float extreme = extreme_value();
  precise float scale = 0.0, best_gain = 0.0;
  if (abs(extreme) >= 1e-15) {
    for (int candidate = 0; candidate < 16; ++candidate) {
      precise float inverse = (float(candidate - 8) - 127.0) / extreme;
      if (candidate == 0) inverse = 1.0 / (extreme / 127.0);
      precise float xq = 0.0, qq = 0.0;
      for (uint i = 0u; i < 32u; ++i) {
        precise float q = float(iq4_value(iq4_code(value[i] * inverse)));
        precise float wq = value[i] * value[i] * q;
        xq = xq + wq * value[i];
        qq = qq + wq * q;
      }
      if (candidate == 0 || (qq > 0.0 && xq * xq > best_gain * qq)) {
        scale = xq / qq;
        best_gain = scale * xq;
      }
    }
    // Values whose cubes leave the range of float have no such sums.
    if (isnan(scale) || isinf(scale)) scale = extreme / -127.0;
  }
  set_u16(0u, scale_to_half(scale));
  const float inverse = inverse_or_zero(scale);
  for (uint i = 0u; i < 32u; ++i) {
    precise float scaled = value[i] * inverse;
    set_u8(2u + (i & 15u), iq4_code(scaled) << (4u * (i >> 4)));
  }
}

void main() {
  const uint chunk = gl_GlobalInvocationID.x, head = gl_WorkGroupID.y, token = gl_WorkGroupID.z;
  if (32u * chunk >= head_dim) return;
  const uint n = min(32u, head_dim - 32u * chunk), from = token * x_stride + head * head_dim + 32u * chunk;
  for (uint i = 0u; i < 32u; ++i) value[i] = i < n ? x.at[from + i] : 0.0;
  for (uint i = 0u; i < 33u; ++i) word[i] = 0u;
  uint n_bytes = bytes_per_block(FORMAT);
  switch (FORMAT) {
    case F32:
      for (uint i = 0u; i < n; ++i) word[i] = floatBitsToUint(value[i]);
      break;
    case F16:
      for (uint i = 0u; i < n; ++i) set_u16(i, float_to_half(value[i]));
      break;
    case BF16:
      for (uint i = 0u; i < n; ++i) set_u16(i, float_to_bf16(value[i]));
      break;
    case Q4_0: encode_blocks(8.0, 15.0, false); break;
    case Q4_1: encode_blocks(0.0, 15.0, false); break;
    case Q5_0: encode_blocks(16.0, 31.0, true); break;
    case Q5_1: encode_blocks(0.0, 31.0, true); break;
    case Q8_0: encode_q8_0(); break;
    case IQ4_NL: encode_iq4_nl(); break;
  }
  const uint chunk_bytes = is_float_format(FORMAT) ? 32u * n_bytes : n_bytes;
  if (is_float_format(FORMAT)) n_bytes *= n;

  const uint position = uint(positions.at[token]);
  const uint to = offset + (head * PAGE + position % PAGE) * row_bytes + chunk * chunk_bytes;
  WritableWords page = WritableWords(pages.at[position / PAGE]);
  // Bytes begin and end in the middle of a word at times, the other half being another row's: that word is changed by
  // its bits, in two steps of which neither touches the other half.
  const bool odd = (to & 2u) != 0u;
  const uint end = (to & 2u) + n_bytes;
  for (uint i = 0u; 4u * i < end; ++i) {
    const uint previous = i > 0u ? word[i - 1u] : 0u;
    const uint bits = odd ? word[i] << 16 | previous >> 16 : word[i];
    uint mask = 0xffffffffu;
    if (i == 0u && odd) mask &= 0xffff0000u;
    if (4u * i + 4u > end) mask &= 0x0000ffffu;
    if (mask == 0xffffffffu) {
      page.at[(to >> 2) + i] = bits;
    } else {
      atomicAnd(page.at[(to >> 2) + i], ~mask);
      atomicOr(page.at[(to >> 2) + i], bits & mask);
    }
  }
}
