#version 460
// Second half of the chunked delta rule: COLUMNS columns of S of one value head (gl_WorkGroupID.y), chunk after chunk.
// Token t writes k_t u_t^T with u_t = beta_t (v_t - what S holds under k_t), S having the writes of the tokens before
// it in the chunk: a unit lower triangular system, solved from the first token down.
#extension GL_GOOGLE_include_directive : require
const uint CHUNK = 64u, COLUMNS = 16u, LANES = 8u, MAX_DK = 256u, MATRICES = 2u * 64u * 64u + 2u * 64u;
const uint MINE = CHUNK / LANES;  // tokens an invocation has: lane, lane + LANES ...
layout(local_size_x = 128) in;
#include "memory.glsl"

layout(push_constant) uniform Push {
  WritableFloats state;  // [heads, dk, dv]
  Floats q, k, v, beta, scratch;
  WritableFloats y;
  uint dk, dv, n_tokens, heads_per_key, qk_stride, v_stride, gate_stride, y_stride;
};
shared float s_columns[MAX_DK][COLUMNS];
shared float u[CHUNK][COLUMNS];

void main() {
  const uint column = gl_LocalInvocationIndex % COLUMNS, lane = gl_LocalInvocationIndex / COLUMNS;
  const uint head = gl_WorkGroupID.y, j = gl_WorkGroupID.x * COLUMNS + column;
  const uint key = head / heads_per_key * dk;
  for (uint i = lane; i < dk; i += LANES) s_columns[i][column] = j < dv ? state.at[(head * dk + i) * dv + j] : 0.0;
  barrier();
  for (uint first = 0u; first < n_tokens; first += CHUNK) {
    const uint n = min(CHUNK, n_tokens - first);
    const uint matrices = (first / CHUNK * gl_NumWorkGroups.y + head) * MATRICES;
    const uint reads = matrices + CHUNK * CHUNK, decays = reads + CHUNK * CHUNK, remaining = decays + CHUNK;

    // What S holds under each key, and what the queries find there.
    float found[MINE];
    [[unroll]] for (uint m = 0u; m < MINE; ++m) {
      const uint t = m * LANES + lane;
      found[m] = 0.0;
      if (t >= n) continue;
      const uint at = (first + t) * qk_stride + key;
      float held = 0.0, seen = 0.0;
      for (uint i = 0u; i < dk; ++i) {
        held += s_columns[i][column] * k.at[at + i];
        seen += s_columns[i][column] * q.at[at + i];
      }
      const float decay = scratch.at[decays + t];
      const float value = j < dv ? v.at[(first + t) * v_stride + head * dv + j] : 0.0;
      u[t][column] = beta.at[(first + t) * gate_stride + head] * (value - decay * held);
      found[m] = decay * seen;
    }
    barrier();
    // As soon as u of a token is known, it is taken out of those after it.
    for (uint s = 0u; s + 1u < n; ++s) {
      const float known = u[s][column];
      [[unroll]] for (uint m = 0u; m < MINE; ++m) {
        const uint t = m * LANES + lane;
        if (t > s && t < n) u[t][column] -= scratch.at[matrices + t * CHUNK + s] * known;
      }
      barrier();
    }
    [[unroll]] for (uint m = 0u; m < MINE; ++m) {
      const uint t = m * LANES + lane;
      if (t >= n) continue;
      float sum = found[m];
      for (uint s = 0u; s <= t; ++s) sum += scratch.at[reads + t * CHUNK + s] * u[s][column];
      if (j < dv) y.at[(first + t) * y_stride + head * dv + j] = sum;
    }
    const float decay = scratch.at[decays + n - 1u];
    for (uint i = lane; i < dk; i += LANES) {
      float sum = s_columns[i][column] * decay;
      for (uint t = 0u; t < n; ++t)
        sum += k.at[(first + t) * qk_stride + key + i] * scratch.at[remaining + t] * u[t][column];
      s_columns[i][column] = sum;
    }
    barrier();
  }
  for (uint i = lane; i < dk; i += LANES)
    if (j < dv) state.at[(head * dk + i) * dv + j] = s_columns[i][column];
}
