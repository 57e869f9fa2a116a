#version 460
// Ops without neighbours on n floats of a row's heads: gl_WorkGroupID.y is the row, z the head. y may be a or b.
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
  uint n, a_stride, b_stride, y_stride, a_head_stride, b_head_stride, y_head_stride;
};

void main() {
  const uint i = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y, head = gl_WorkGroupID.z;
  if (i >= n) return;
  const float u = a.at[row * a_stride + head * a_head_stride + i], v = b.at[row * b_stride + head * b_head_stride + i];
  float value = u + v;
  if (MODE == 0u) value = silu(u) * v;
  if (MODE == 1u) value = u * sigmoid(v);
  y.at[row * y_stride + head * y_head_stride + i] = value;
}
