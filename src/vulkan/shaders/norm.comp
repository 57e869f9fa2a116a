#version 460
// Norms of rows of n floats, a workgroup a row: gl_WorkGroupID.x is the row within a token (a head), y the token.
//   MODE 0  y = x / sqrt(mean(x^2) + eps) * weight
//   MODE 1  y = x / sqrt(mean(x^2) + eps) * weight * silu(z)
//   MODE 2  y = x * scale / sqrt(sum(x^2) + eps)
// y may be x.
#extension GL_GOOGLE_include_directive : require
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 64u;
layout(constant_id = 1) const uint MODE = 0u;
#include "math.glsl"
#include "memory.glsl"
#include "reduce.glsl"

layout(push_constant) uniform Push {
  Floats x, weight, z;
  WritableFloats y;
  uint n;
  uint x_stride, x_head_stride, z_stride, z_head_stride, y_stride, y_head_stride;
  float eps, scale;
};

void main() {
  const uint from = gl_WorkGroupID.y * x_stride + gl_WorkGroupID.x * x_head_stride;
  const uint gate = gl_WorkGroupID.y * z_stride + gl_WorkGroupID.x * z_head_stride;
  const uint to = gl_WorkGroupID.y * y_stride + gl_WorkGroupID.x * y_head_stride;
  float squares = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < n; i += LANES) squares += x.at[from + i] * x.at[from + i];
  squares = workgroup_sum(squares);
  const float factor = MODE == 2u ? scale / sqrt(squares + eps) : 1.0 / sqrt(squares / float(n) + eps);
  for (uint i = gl_LocalInvocationIndex; i < n; i += LANES) {
    float value = x.at[from + i] * factor;
    if (MODE != 2u) value *= weight.at[i];
    if (MODE == 1u) value *= silu(z.at[gate + i]);
    y.at[to + i] = value;
  }
}
