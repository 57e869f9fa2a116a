#version 460
// The parts of attention.comp put together, in the order of the splits: y[row] = sum / total. A workgroup a query row
// (x) and KV head (y).
#extension GL_GOOGLE_include_directive : require
const uint LANES = 64u;
layout(local_size_x = 64) in;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats parts;
  WritableFloats y;
  uint n_rows, group, y_stride, head_dim, n_splits;
};

void main() {
  const uint r = gl_WorkGroupID.x, kv_head = gl_WorkGroupID.y, n_kv = gl_NumWorkGroups.y;
  const uint to = r / group * y_stride + (kv_head * group + r % group) * head_dim;
  const uint stride = n_kv * n_rows * (head_dim + 2u), from = (kv_head * n_rows + r) * (head_dim + 2u);
  float largest = uintBitsToFloat(0xff800000u);
  for (uint s = 0u; s < n_splits; ++s) largest = max(largest, parts.at[from + s * stride + head_dim]);
  for (uint d = gl_LocalInvocationIndex; d < head_dim; d += LANES) {
    float sum = 0.0, total = 0.0;
    for (uint s = 0u; s < n_splits; ++s) {
      const uint at = from + s * stride;
      if (parts.at[at + head_dim + 1u] == 0.0) continue;  // saw nothing
      const float weight = exp_exact(parts.at[at + head_dim] - largest);
      sum += weight * parts.at[at + d];
      total += weight * parts.at[at + head_dim + 1u];
    }
    y.at[to + d] = sum / total;
  }
}
