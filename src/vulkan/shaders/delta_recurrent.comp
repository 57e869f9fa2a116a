#version 460
// The gated delta rule token by token. Per token, with S [dk, dv] of a value head:
//   S *= exp(g); u = beta * (v - S^T k); S += k u^T; out = S^T q
// Columns of S do not depend on each other: a workgroup takes COLUMNS of them, an invocation every LANES-th row of
// one, and holds these ROWS numbers in registers over all tokens. gl_WorkGroupID.y is the head.
#extension GL_GOOGLE_include_directive : require
const uint COLUMNS = 16u, LANES = 8u;
layout(local_size_x = 128) in;
layout(constant_id = 0) const uint ROWS = 16u;  // dk / LANES, rounded up
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  WritableFloats state;  // [heads, dk, dv]
  Floats q, k, v, g, beta;
  WritableFloats y;
  uint dk, dv, n_tokens, heads_per_key, qk_stride, v_stride, gate_stride, y_stride;
};
shared float part[2][LANES][COLUMNS];

/// The sum over the lanes of a column. `slot` alternates, so that one barrier a sum is enough.
float column_sum(uint slot, uint lane, uint column, float value) {
  part[slot][lane][column] = value;
  barrier();
  float sum = 0.0;
  [[unroll]] for (uint i = 0u; i < LANES; ++i) sum += part[slot][i][column];
  return sum;
}

void main() {
  const uint column = gl_LocalInvocationIndex % COLUMNS, lane = gl_LocalInvocationIndex / COLUMNS;
  const uint head = gl_WorkGroupID.y, j = gl_WorkGroupID.x * COLUMNS + column;
  const uint key = head / heads_per_key * dk;
  float s[ROWS];
  [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
    const uint i = r * LANES + lane;
    s[r] = i < dk && j < dv ? state.at[(head * dk + i) * dv + j] : 0.0;
  }
  for (uint t = 0u; t < n_tokens; ++t) {
    const uint at = t * qk_stride + key;
    const float decay = exp_exact(g.at[t * gate_stride + head]);
    float held = 0.0;
    [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
      const uint i = r * LANES + lane;
      s[r] *= decay;
      if (i < dk) held += s[r] * k.at[at + i];
    }
    held = column_sum(0u, lane, column, held);
    const float value = j < dv ? v.at[t * v_stride + head * dv + j] : 0.0;
    const float u = beta.at[t * gate_stride + head] * (value - held);
    float result = 0.0;
    [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
      const uint i = r * LANES + lane;
      if (i < dk) {
        s[r] += k.at[at + i] * u;
        result += s[r] * q.at[at + i];
      }
    }
    result = column_sum(1u, lane, column, result);
    if (lane == 0u && j < dv) y.at[t * y_stride + head * dv + j] = result;
  }
  [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
    const uint i = r * LANES + lane;
    if (i < dk && j < dv) state.at[(head * dk + i) * dv + j] = s[r];
  }
}
