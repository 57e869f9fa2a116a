#version 460
// Ops without neighbours on rows of n floats, gl_WorkGroupID.y being the row. y may be a or b.
//   MODE 0  y = silu(a) * b            (SwiGLU)
//   MODE 1  y = a * sigmoid(b)         (the gate of attention)
//   MODE 2  y = a + b                  (residual)
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint MODE = 0u;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats a, b;
  WritableFloats y;
  uint n, a_stride, b_stride, y_stride;
};

void main() {
  const uint i = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
  if (i >= n) return;
  const float u = a.at[row * a_stride + i], v = b.at[row * b_stride + i];
  float value = u + v;
  if (MODE == 0u) value = silu(u) * v;
  if (MODE == 1u) value = u * sigmoid(v);
  y.at[row * y_stride + i] = value;
}
