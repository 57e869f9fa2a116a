// The decoders of all block formats, shared by every shader that reads weights or caches.
//
// They work on octets: eight neighbouring weights of a row. An octet is eight signed bytes with one scale and one
// offset: weight = scale * code + offset. Float shaders make floats of it, integer ones multiply the codes. Numbers
// are rounded in the order of quant/<format>.cpp, which draws the bits.
//
// `format` is the type id of quant/format.h, everywhere a specialization constant, so that of each switch one case
// is left when a driver compiles the shader.
const uint F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12,
           Q5_K = 13, Q6_K = 14, IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ1_S = 19, IQ4_NL = 20, IQ3_S = 21,
           IQ2_S = 22, IQ4_XS = 23, IQ1_M = 29, BF16 = 30, TQ1_0 = 34, TQ2_0 = 35, MXFP4 = 39, NVFP4 = 40;

// Where the grids begin in the table buffer, in words (vulkan/tables.h): entries of eight bytes, of four for IQ3.
const uint kIq2XxsGrid = 0, kIq2XsGrid = 512, kIq2SGrid = 1536, kIq3XxsGrid = 3584, kIq3SGrid = 3840, kIq1Grid = 4352;

struct Octet {
  uvec2 codes;  // lowest weight in the lowest byte
  float scale;
  float offset;
};

bool is_float_format(uint format) { return format == F32 || format == F16 || format == BF16; }
bool has_offset(uint format) {
  return format == Q4_1 || format == Q5_1 || format == Q2_K || format == Q4_K || format == Q5_K;
}
uint octets_per_block(uint format) {
  switch (format) {
    case Q4_0: case Q4_1: case Q5_0: case Q5_1: case Q8_0: case IQ4_NL: case MXFP4: return 4;
    case NVFP4: return 8;
    default: return 32;
  }
}
/// Neighbouring octets, from a multiple of this on, that have the same scale and offset; at most 4.
uint octets_of_a_scale(uint format) {
  switch (format) {
    case Q2_K: case Q3_K: case Q6_K: case IQ2_XS: case IQ2_S: case IQ1_M: case NVFP4: return 2;
    default: return 4;
  }
}
uint bytes_per_block(uint format) {
  switch (format) {
    case Q4_0: case IQ4_NL: return 18;
    case Q4_1: return 20;
    case Q5_0: return 22;
    case Q5_1: return 24;
    case Q8_0: return 34;
    case Q2_K: return 84;
    case Q3_K: case IQ3_S: return 110;
    case Q4_K: return 144;
    case Q5_K: return 176;
    case Q6_K: return 210;
    case IQ2_XXS: case TQ2_0: return 66;
    case IQ2_XS: return 74;
    case IQ3_XXS: return 98;
    case IQ1_S: return 50;
    case IQ2_S: return 82;
    case IQ4_XS: return 136;
    case IQ1_M: return 56;
    case TQ1_0: return 54;
    case MXFP4: return 17;
    case NVFP4: return 36;
    case F32: return 4;
    default: return 2;
  }
}

// Arithmetic on four bytes at once.

/// Each byte (below 128) minus k.
uvec2 minus_bytes(uvec2 bytes, uint k) { return ((bytes | 0x80808080u) - k * 0x01010101u) ^ 0x80808080u; }
/// Bits 0 to 3 of n as bit 0 of four bytes.
uint spread_bits(uint n) { return ((n & 15u) * 0x00204081u) & 0x01010101u; }
uvec2 spread_byte(uint n) { return uvec2(spread_bits(n), spread_bits(n >> 4)); }
/// Bytes (not 0) with those negated whose bit of `signs` is set.
uvec2 with_signs(uvec2 magnitudes, uint signs) {
  const uvec2 ones = spread_byte(signs);
  return (magnitudes ^ (ones * 255u)) + ones;
}
/// Seven signs and an eighth that makes their number even.
uint even_signs(uint seven) { return seven | ((uint(bitCount(seven)) & 1u) << 7); }
uvec2 nibbles(uvec2 bytes, uint upper) { return (bytes >> (4u * upper)) & 0x0f0f0f0fu; }

/// Each byte, below 16, replaced by that byte of a table of sixteen.
uint look_up4(uint codes, uvec4 table) {
  uint result = 0;
  [[unroll]] for (int i = 0; i < 4; ++i) {
    const uint code = bitfieldExtract(codes, 8 * i, 4);
    const uint low = (code & 4u) == 0u ? table.x : table.y, high = (code & 4u) == 0u ? table.z : table.w;
    result |= bitfieldExtract(code < 8u ? low : high, int(8u * (code & 3u)), 8) << (8 * i);
  }
  return result;
}
uvec2 look_up(uvec2 codes, uvec4 table) { return uvec2(look_up4(codes.x, table), look_up4(codes.y, table)); }
// quant/codebooks.h: kIq4Values and kFp4DoubledValues.
const uvec4 kIq4Values = uvec4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
const uvec4 kFp4Values = uvec4(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);

uvec2 grid8(Words tables, uint grid, uint index) {
  return uvec2(tables.at[grid + 2u * index], tables.at[grid + 2u * index + 1u]);
}

/// quant/k_scales.h: scale and minimum of group g from the twelve bytes at `at`.
uvec2 k_scale(Words w, uint at, uint g) {
  if (g < 4u) return uvec2(load_u8(w, at + g), load_u8(w, at + g + 4u)) & 63u;
  const uint low = load_u8(w, at + g + 4u);
  return uvec2((low & 15u) | (load_u8(w, at + g - 4u) >> 6) << 4, low >> 4 | (load_u8(w, at + g) >> 6) << 4);
}
float mxfp4_scale(uint e) { return uintBitsToFloat(e < 2u ? 0x200000u << e : (e - 1u) << 23); }
float nvfp4_half_scale(uint code) {
  const uint low = code & 127u;
  if (code == 127u) return 0.0;
  return low < 8u ? float(low) * 0.0009765625 : uintBitsToFloat((low + (119u << 3)) << 20);
}
uint ternary_digits(uint bytes, uint power) {
  uint digits = 0;
  [[unroll]] for (int i = 0; i < 4; ++i)
    digits |= ((bitfieldExtract(bytes, 8 * i, 8) * power & 255u) * 3u >> 8) << (8 * i);
  return digits;
}
uint power_of_3(uint n) { return n == 0u ? 1u : n == 1u ? 3u : n == 2u ? 9u : n == 3u ? 27u : 81u; }

/// Octet o of the block at byte b. Not for F32, F16, BF16.
Octet block_octet(uint format, Words w, Words tables, uint b, uint o) {
  Octet r;
  r.offset = 0.0;
  precise float scale = 1.0, offset = 0.0;
  switch (format) {
    case Q4_0:
      scale = load_half(w, b);
      r.codes = minus_bytes(nibbles(load_u32x2(w, b + 2u + 8u * (o & 1u)), o >> 1), 8u);
      break;
    case Q4_1:
      scale = load_half(w, b);
      offset = load_half(w, b + 2u);
      r.codes = nibbles(load_u32x2(w, b + 4u + 8u * (o & 1u)), o >> 1);
      break;
    case Q5_0:
      scale = load_half(w, b);
      r.codes = minus_bytes(nibbles(load_u32x2(w, b + 6u + 8u * (o & 1u)), o >> 1) |
                                spread_byte(load_u8(w, b + 2u + o)) << 4,
                            16u);
      break;
    case Q5_1:
      scale = load_half(w, b);
      offset = load_half(w, b + 2u);
      r.codes = nibbles(load_u32x2(w, b + 8u + 8u * (o & 1u)), o >> 1) | spread_byte(load_u8(w, b + 4u + o)) << 4;
      break;
    case Q8_0:
      scale = load_half(w, b);
      r.codes = load_u32x2(w, b + 2u + 8u * o);
      break;
    case IQ4_NL:
      scale = load_half(w, b);
      r.codes = look_up(nibbles(load_u32x2(w, b + 2u + 8u * (o & 1u)), o >> 1), kIq4Values);
      break;
    case MXFP4:
      scale = mxfp4_scale(load_u8(w, b));
      r.codes = look_up(nibbles(load_u32x2(w, b + 1u + 8u * (o & 1u)), o >> 1), kFp4Values);
      break;
    case NVFP4:
      scale = nvfp4_half_scale(load_u8(w, b + (o >> 1)));
      r.codes = look_up(nibbles(load_u32x2(w, b + 4u + 8u * (o >> 1)), o & 1u), kFp4Values);
      break;
    case Q2_K: {
      const uint both = load_u8(w, b + (o >> 1));
      scale = load_half(w, b + 80u) * float(both & 15u);
      offset = -(load_half(w, b + 82u) * float(both >> 4));
      r.codes = (load_u32x2(w, b + 16u + 32u * (o >> 4) + 8u * (o & 3u)) >> (2u * (o >> 2 & 3u))) & 0x03030303u;
      break;
    }
    case Q3_K: {
      const uint j = o >> 2 & 3u, k = o >> 1;
      const uint low = load_u8(w, b + 96u + (k & 7u)) >> (4u * (k >> 3)) & 15u;
      const uint upper = load_u8(w, b + 104u + (k & 3u)) >> (2u * (k >> 2)) & 3u;
      scale = load_half(w, b + 108u) * float(int(low | upper << 4) - 32);
      const uvec2 bits = (load_u32x2(w, b + 32u + 32u * (o >> 4) + 8u * (o & 3u)) >> (2u * j)) & 0x03030303u;
      const uvec2 third = (load_u32x2(w, b + 8u * (o & 3u)) >> (4u * (o >> 4) + j)) & 0x01010101u;
      r.codes = minus_bytes(bits | third << 2, 4u);
      break;
    }
    case Q4_K:
    case Q5_K: {
      const uint g = o >> 2;
      const uvec2 both = k_scale(w, b + 4u, g);
      scale = load_half(w, b) * float(both.x);
      offset = -(load_half(w, b + 2u) * float(both.y));
      const uint q = b + (format == Q4_K ? 16u : 48u);
      r.codes = nibbles(load_u32x2(w, q + 32u * (o >> 3) + 8u * (o & 3u)), g & 1u);
      if (format == Q5_K) r.codes |= ((load_u32x2(w, b + 16u + 8u * (o & 3u)) >> g) & 0x01010101u) << 4;
      break;
    }
    case Q6_K: {
      const uint h = o >> 4, in_half = o & 15u;
      scale = load_half(w, b + 208u) * float(bitfieldExtract(int(load_u8(w, b + 192u + (o >> 1))), 0, 8));
      const uvec2 low = nibbles(load_u32x2(w, b + 64u * h + 8u * (o & 7u)), in_half >> 3);
      const uvec2 upper = (load_u32x2(w, b + 128u + 32u * h + 8u * (o & 3u)) >> (2u * (in_half >> 2))) & 0x03030303u;
      r.codes = minus_bytes(low | upper << 4, 32u);
      break;
    }
    case IQ4_XS: {
      const uint g = o >> 2;
      const uint low = load_u8(w, b + 4u + (g >> 1)) >> (4u * (g & 1u)) & 15u;
      const uint upper = load_u16(w, b + 2u) >> (2u * g) & 3u;
      scale = load_half(w, b) * float(int(low | upper << 4) - 32);
      r.codes = look_up(nibbles(load_u32x2(w, b + 8u + 16u * g + 8u * (o & 1u)), o >> 1 & 1u), kIq4Values);
      break;
    }
    case TQ1_0: {
      scale = load_half(w, b + 52u);
      uvec2 digits;
      if (o < 20u) {
        const uvec2 bytes = load_u32x2(w, b + 8u * (o & 3u));
        const uint power = power_of_3(o >> 2);
        digits = uvec2(ternary_digits(bytes.x, power), ternary_digits(bytes.y, power));
      } else if (o < 30u) {
        const uvec2 bytes = load_u32x2(w, b + 32u + 8u * (o & 1u));
        const uint power = power_of_3((o - 20u) >> 1);
        digits = uvec2(ternary_digits(bytes.x, power), ternary_digits(bytes.y, power));
      } else {
        const uint bytes = load_u32(w, b + 48u);
        const uint n = 2u * (o - 30u);
        digits = uvec2(ternary_digits(bytes, power_of_3(n)), ternary_digits(bytes, power_of_3(n + 1u)));
      }
      r.codes = minus_bytes(digits, 1u);
      break;
    }
    case TQ2_0:
      scale = load_half(w, b + 64u);
      r.codes = minus_bytes((load_u32x2(w, b + 32u * (o >> 4) + 8u * (o & 3u)) >> (2u * (o >> 2 & 3u))) & 0x03030303u,
                            1u);
      break;
    case IQ2_XXS: {
      const uint group = b + 2u + 8u * (o >> 2);
      const uint bits = load_u32(w, group + 4u);
      scale = load_half(w, b) * (0.5 + float(bits >> 28)) * 0.25;
      r.codes = with_signs(grid8(tables, kIq2XxsGrid, load_u8(w, group + (o & 3u))),
                           even_signs(bits >> (7u * (o & 3u)) & 127u));
      break;
    }
    case IQ2_XS: {
      const uint entry = load_u16(w, b + 2u + 2u * o);
      const uint stored = load_u8(w, b + 66u + (o >> 2)) >> (4u * (o >> 1 & 1u)) & 15u;
      scale = load_half(w, b) * (0.5 + float(stored)) * 0.25;
      r.codes = with_signs(grid8(tables, kIq2XsGrid, entry & 511u), even_signs(entry >> 9));
      break;
    }
    case IQ2_S: {
      const uint stored = load_u8(w, b + 74u + (o >> 2)) >> (4u * (o >> 1 & 1u)) & 15u;
      const uint upper = load_u8(w, b + 66u + (o >> 2)) >> (2u * (o & 3u)) & 3u;
      scale = load_half(w, b) * (0.5 + float(stored)) * 0.25;
      r.codes = with_signs(grid8(tables, kIq2SGrid, load_u8(w, b + 2u + o) | upper << 8), load_u8(w, b + 34u + o));
      break;
    }
    case IQ3_XXS: {
      const uint bits = load_u32(w, b + 66u + 4u * (o >> 2));
      const uint index = load_u16(w, b + 2u + 2u * o);
      scale = load_half(w, b) * (0.5 + float(bits >> 28)) * 0.5;
      r.codes = with_signs(uvec2(tables.at[kIq3XxsGrid + (index & 255u)], tables.at[kIq3XxsGrid + (index >> 8)]),
                           even_signs(bits >> (7u * (o & 3u)) & 127u));
      break;
    }
    case IQ3_S: {
      const uint g = o >> 2;
      const uint stored = load_u8(w, b + 106u + (g >> 1)) >> (4u * (g & 1u)) & 15u;
      const uint index = load_u16(w, b + 2u + 2u * o);
      const uint upper = load_u8(w, b + 66u + g) >> (2u * (o & 3u));
      scale = load_half(w, b) * float(1u + 2u * stored);
      r.codes = with_signs(uvec2(tables.at[kIq3SGrid + (index & 255u | (upper & 1u) << 8)],
                                 tables.at[kIq3SGrid + (index >> 8 | (upper >> 1 & 1u) << 8)]),
                           load_u8(w, b + 74u + o));
      break;
    }
    case IQ1_S: {
      const uint group = load_u16(w, b + 34u + 2u * (o >> 2));
      const uint index = load_u8(w, b + 2u + o) | (group >> (3u * (o & 3u)) & 7u) << 8;
      scale = load_half(w, b) * float(2u * (group >> 12 & 7u) + 1u) * 0.125;
      r.codes = minus_bytes(grid8(tables, kIq1Grid, index), (group & 0x8000u) != 0u ? 9u : 7u);
      break;
    }
    case IQ1_M: {
      uint d = 0;
      [[unroll]] for (uint i = 0; i < 4u; ++i) d |= load_u16(w, b + 48u + 2u * i) >> 12 << (4u * i);
      const uint k = o >> 1;
      const uint stored = load_u16(w, b + 48u + 2u * (k >> 2)) >> (3u * (k & 3u)) & 7u;
      const uint high_shift = load_u8(w, b + 32u + k) >> (4u * (o & 1u)) & 15u;
      scale = half_to_float(d) * float(2u * stored + 1u) * 0.125;
      r.codes = minus_bytes(grid8(tables, kIq1Grid, load_u8(w, b + o) | (high_shift & 7u) << 8),
                            (high_shift & 8u) != 0u ? 9u : 7u);
      break;
    }
  }
  r.scale = scale;
  r.offset = offset;
  return r;
}

/// Octet o of the row at byte `row`. Not for F32, F16, BF16.
Octet row_octet(uint format, Words w, Words tables, uint row, uint o) {
  const uint per_block = octets_per_block(format);
  return block_octet(format, w, tables, row + o / per_block * bytes_per_block(format), o % per_block);
}

struct Eight {
  vec4 low, high;
};
vec4 bytes_to_floats(uint codes) {
  const int c = int(codes);
  return vec4(bitfieldExtract(c, 0, 8), bitfieldExtract(c, 8, 8), bitfieldExtract(c, 16, 8),
              bitfieldExtract(c, 24, 8));
}
float load_float(uint format, Words w, uint row, uint i) {
  if (format == F32) return uintBitsToFloat(w.at[(row >> 2) + i]);
  const uint bits = load_u16(w, row + 2u * i);
  return format == F16 ? half_to_float(bits) : uintBitsToFloat(bits << 16);
}
/// Weights 8o to 8o + 7 of the row at byte `row`; 0 from n_cols on (only rows of floats end within an octet).
Eight load_eight(uint format, Words w, Words tables, uint row, uint o, uint n_cols) {
  Eight r;
  if (is_float_format(format)) {
    [[unroll]] for (uint i = 0; i < 4u; ++i) {
      const uint a = 8u * o + i, b = a + 4u;
      r.low[i] = a < n_cols ? load_float(format, w, row, a) : 0.0;
      r.high[i] = b < n_cols ? load_float(format, w, row, b) : 0.0;
    }
    return r;
  }
  const Octet octet = row_octet(format, w, tables, row, o);
  // Two roundings, as the decoders of the processor.
  precise vec4 low = bytes_to_floats(octet.codes.x) * octet.scale;
  precise vec4 high = bytes_to_floats(octet.codes.y) * octet.scale;
  if (has_offset(format)) {
    low += octet.offset;
    high += octet.offset;
  }
  r.low = low;
  r.high = high;
  return r;
}
