#version 460
// First half of the chunked delta rule (the WY form of Yang et al., 2024): what the tokens of a chunk of 64 have to do
// with each other, the same for every column of S. A workgroup a chunk (x) and value head (y). It writes, per chunk
// and head, MATRICES floats:
//   write[t][s] = beta_t * decay(s..t] * k_t . k_s   for s < t
//   read[t][s]  = decay(s..t] * q_t . k_s            for s <= t
//   decay[t]    of S from the chunk's start to token t;   remaining[t]  of what t writes, to the chunk's end
#extension GL_GOOGLE_include_directive : require
const uint CHUNK = 64u, LANES = 64u, MATRICES = 2u * 64u * 64u + 2u * 64u;
layout(local_size_x = 64) in;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats q, k, g, beta;
  WritableFloats scratch;
  uint dk, n_tokens, heads_per_key, qk_stride, gate_stride;
};
shared float log_decay[CHUNK];  // from the chunk's start

void main() {
  const uint first = gl_WorkGroupID.x * CHUNK, head = gl_WorkGroupID.y;
  const uint n = min(CHUNK, n_tokens - first), t = gl_LocalInvocationIndex;
  const uint to = (gl_WorkGroupID.x * gl_NumWorkGroups.y + head) * MATRICES;
  const uint key = head / heads_per_key * dk;
  if (t == 0u) {
    float sum = 0.0;
    for (uint i = 0u; i < n; ++i) log_decay[i] = sum += g.at[(first + i) * gate_stride + head];
  }
  barrier();
  if (t < n) {
    scratch.at[to + 2u * CHUNK * CHUNK + t] = exp_exact(log_decay[t]);
    scratch.at[to + 2u * CHUNK * CHUNK + CHUNK + t] = exp_exact(log_decay[n - 1u] - log_decay[t]);
  }
  // An invocation a pair of tokens. Only s <= t exist: for others the exponent is positive and would overflow.
  for (uint pair = gl_LocalInvocationIndex; pair < n * n; pair += LANES) {
    const uint row = pair / n, s = pair % n;
    if (s > row) continue;
    const uint at = (first + row) * qk_stride + key, earlier = (first + s) * qk_stride + key;
    float kk = 0.0, qk = 0.0;
    for (uint i = 0u; i < dk; ++i) {
      const float other = k.at[earlier + i];
      kk += k.at[at + i] * other;
      qk += q.at[at + i] * other;
    }
    const float decay = exp_exact(log_decay[row] - log_decay[s]);
    scratch.at[to + row * CHUNK + s] = beta.at[(first + row) * gate_stride + head] * decay * kk;
    scratch.at[to + CHUNK * CHUNK + row * CHUNK + s] = decay * qk;
  }
}
