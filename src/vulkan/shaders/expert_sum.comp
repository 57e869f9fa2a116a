#version 460
// x[t] += sum_s weights[t][s] * y[t * k + s] + sigmoid(shared_gate[t]) * shared_y[t]: from the highest weight to the
// lowest, the shared expert last.
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint HAS_SHARED = 1u;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats y, weights, shared_y, shared_gate;
  WritableFloats x;
  uint n, k, y_stride, shared_stride, x_stride;
};

void main() {
  const uint i = gl_GlobalInvocationID.x, token = gl_WorkGroupID.y;
  if (i >= n) return;
  float sum = 0.0;
  for (uint s = 0u; s < k; ++s) sum += weights.at[token * k + s] * y.at[(token * k + s) * y_stride + i];
  if (HAS_SHARED != 0u) sum += sigmoid(shared_gate.at[token]) * shared_y.at[token * shared_stride + i];
  x.at[token * x_stride + i] += sum;
}
