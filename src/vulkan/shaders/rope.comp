#version 460
// Rotates the first 2 * n_half values of heads in halves, in place: x[i], x[i + n_half] by the angle whose cosine and
// sine are cos[token][i], sin[token][i]. gl_WorkGroupID.y is the head, z the token.
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
#include "memory.glsl"

layout(push_constant) uniform Push {
  WritableFloats x;
  Floats cosines, sines;
  uint n_half, x_stride, x_head_stride;
};

void main() {
  const uint i = gl_GlobalInvocationID.x, token = gl_WorkGroupID.z;
  if (i >= n_half) return;
  const uint at = token * x_stride + gl_WorkGroupID.y * x_head_stride + i;
  const float c = cosines.at[token * n_half + i], s = sines.at[token * n_half + i];
  const float first = x.at[at], second = x.at[at + n_half];
  x.at[at] = first * c - second * s;
  x.at[at + n_half] = second * c + first * s;
}
