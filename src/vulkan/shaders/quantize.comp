#version 460
// Rows of floats rounded to bytes, groups of 32 with a scale: code = x * (127 / largest) to the nearest, halves to
// even; scale = largest / 127. An invocation a group; gl_WorkGroupID.y is the row. (kernels/kernels.h, QuantizedGroup.)
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats x;
  WritableWords codes;     // [rows, n / 4]
  WritableFloats scales;   // [rows, n / 32]
  uint n_groups, x_stride;
};

void main() {
  const uint group = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
  if (group >= n_groups) return;
  const uint from = row * x_stride + 32u * group, to = row * n_groups + group;
  float largest = 0.0;
  for (uint i = 0u; i < 32u; ++i) largest = max(largest, abs(x.at[from + i]));
  const float inverse = largest > 0.0 ? 127.0 / largest : 0.0;
  for (uint i = 0u; i < 8u; ++i) {
    uint word = 0u;
    [[unroll]] for (uint j = 0u; j < 4u; ++j)
      word |= (uint(int(roundEven(x.at[from + 4u * i + j] * inverse))) & 255u) << (8u * j);
    codes.at[8u * to + i] = word;
  }
  scales.at[to] = largest / 127.0;
}
