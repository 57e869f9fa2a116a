#version 460
// beta = sigmoid(b), g = a_coef * softplus(a + dt_bias), for n heads of gl_WorkGroupID.y tokens. In a and b `group` heads
// follow each other, the next of them group_stride floats later.
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats a, b, a_coef, dt_bias;
  WritableFloats g, beta;
  uint n, ab_stride, out_stride, group, group_stride;
};

void main() {
  const uint i = gl_GlobalInvocationID.x;
  if (i >= n) return;
  const uint from = gl_WorkGroupID.y * ab_stride + i / group * group_stride + i % group;
  const uint to = gl_WorkGroupID.y * out_stride + i;
  const float gate = a_coef.at[i] * softplus(a.at[from] + dt_bias.at[i]);
  const float strength = sigmoid(b.at[from]);
  g.at[to] = gate;
  beta.at[to] = strength;
}
