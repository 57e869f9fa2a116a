#version 460
// The k largest of n logits (ties: lower index first; NaN below every number), largest first, and their softmax
// among themselves. A workgroup a token. A NaN among the logits makes all weights NaN: it must be seen.
#extension GL_GOOGLE_include_directive : require
const uint LANES = 64u, MAX_EXPERTS = 1024u, MAX_CHOSEN = 32u;
layout(local_size_x = 64) in;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats logits;
  WritableInts ids;
  WritableFloats weights;
  uint n, k, stride;
};
shared uint rank[MAX_EXPERTS];
shared uint best_index[LANES];
shared float chosen[MAX_CHOSEN];
shared uint any_nan;

/// A number the larger, the better the logit; 1 for NaN, so that 0 is left for what was taken.
uint rank_of(float x) {
  const uint bits = floatBitsToUint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 1u;
  if ((bits & 0x7fffffffu) == 0u) return 0x80000000u;  // zeros of both signs are equal
  return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

void main() {
  const uint lane = gl_LocalInvocationIndex, token = gl_WorkGroupID.x;
  if (lane == 0u) any_nan = 0u;
  barrier();
  for (uint i = lane; i < n; i += LANES) {
    rank[i] = rank_of(logits.at[token * stride + i]);
    if (rank[i] == 1u) any_nan = 1u;
  }
  barrier();
  const uint count = min(k, n);
  for (uint j = 0u; j < count; ++j) {
    uint best = lane < n ? lane : 0u;
    for (uint i = lane; i < n; i += LANES)
      if (rank[i] > rank[best]) best = i;
    best_index[lane] = best;
    barrier();
    for (uint step = LANES / 2u; step > 0u; step /= 2u) {
      if (lane < step) {
        const uint mine = best_index[lane], other = best_index[lane + step];
        if (rank[other] > rank[mine] || (rank[other] == rank[mine] && other < mine)) best_index[lane] = other;
      }
      barrier();
    }
    const uint winner = best_index[0];
    if (lane == 0u) {
      ids.at[token * k + j] = int(winner);
      chosen[j] = logits.at[token * stride + winner];
      rank[winner] = 0u;
    }
    barrier();
  }
  if (lane != 0u) return;
  float sum = 0.0;
  for (uint j = 0u; j < count; ++j) sum += exp_exact(chosen[j] - chosen[0]);
  for (uint j = 0u; j < count; ++j)
    weights.at[token * k + j] =
        any_nan != 0u ? uintBitsToFloat(0x7fc00000u) : exp_exact(chosen[j] - chosen[0]) / sum;
}
