// How shaders reach memory: addresses from the push constants, everything as 32-bit words.
//
// Blocks lie at any byte. Reading them as words needs no 8- or 16-bit storage, which not every device has; the words
// are in the first-level cache when their neighbour is read.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_control_flow_attributes : require

layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Words { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer WritableWords { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Ints { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer WritableInts { int at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer WritableFloats { float at[]; };

/// Four bytes from any byte on; touches no word that holds none of them.
uint load_u32(Words words, uint byte) {
  const uint low = words.at[byte >> 2], high = words.at[(byte + 3u) >> 2];
  const uint shift = 8u * (byte & 3u);
  return shift == 0u ? low : (low >> shift) | (high << (32u - shift));
}
uvec2 load_u32x2(Words words, uint byte) {
  return uvec2(load_u32(words, byte), load_u32(words, byte + 4u));
}
uint load_u8(Words words, uint byte) {
  return bitfieldExtract(words.at[byte >> 2], int(8u * (byte & 3u)), 8);
}
/// At an even byte.
uint load_u16(Words words, uint byte) {
  return bitfieldExtract(words.at[byte >> 2], int(8u * (byte & 2u)), 16);
}

/// Exact, denormals too: scales of blocks are denormal float16 numbers at times, and unpackHalf2x16 may flush them.
float half_to_float(uint h) {
  const uint exponent = bitfieldExtract(h, 10, 5), mantissa = h & 0x3ffu, sign = (h & 0x8000u) << 16;
  if (exponent == 31u) return uintBitsToFloat(sign | 0x7f800000u | (mantissa << 13));
  const float normal = uintBitsToFloat(((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = exponent == 0u ? float(mantissa) * 5.9604644775390625e-8 : normal;
  return uintBitsToFloat(sign | floatBitsToUint(magnitude));
}
float load_half(Words words, uint byte) { return half_to_float(load_u16(words, byte)); }
