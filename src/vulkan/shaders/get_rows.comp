#version 460
// Rows of a matrix in any block format as floats: token embeddings. y[t] = W[ids[t]].
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
#include "blocks.glsl"

layout(local_size_x = 64) in;
layout(constant_id = 0) const uint FORMAT = 0u;
layout(push_constant) uniform Push {
  Words weights, tables;
  Ints ids;
  WritableFloats y;
  uint n_rows, n_cols, row_bytes, y_stride;
};

void main() {
  const uint o = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
  const uint id = uint(ids.at[t]);
  if (8u * o >= n_cols) return;
  const uint first = t * y_stride + 8u * o;
  // An id from outside never reads outside.
  Eight w = Eight(vec4(0.0), vec4(0.0));
  if (id < n_rows) w = load_eight(FORMAT, weights, tables, id * row_bytes, o, n_cols);
  const uint n = min(8u, n_cols - 8u * o);
  [[unroll]] for (uint i = 0u; i < 4u; ++i) {
    if (i < n) y.at[first + i] = w.low[i];
    if (i + 4u < n) y.at[first + 4u + i] = w.high[i];
  }
}
