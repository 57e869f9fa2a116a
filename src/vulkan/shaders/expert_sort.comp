#version 460
// Pairs (token, slot) sorted by expert, and the tiles matmul.comp works on. One workgroup.
//   ids[n_pairs]          expert of each pair; one outside counts as the last, as in matvec.comp
//   begins[n_experts + 1] where the pairs of an expert begin
//   pairs[n_pairs]        pair numbers, expert by expert, in any order within one
//   tiles[2 * n_tiles]    (expert, first place), at most n_pairs / 32 + n_experts of them
//   groups[3]             what to dispatch: row_groups, tiles, row_layers
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"

const uint LANES = 256u, TILE = 32u, MAX_EXPERTS = 1024u;
layout(local_size_x = 256) in;
layout(push_constant) uniform Push {
  Ints ids;
  WritableInts begins, pairs, tiles, groups;
  uint n_pairs, n_experts, row_groups, row_layers;
};
shared uint count[MAX_EXPERTS];
shared uint next[MAX_EXPERTS];

uint expert_of(uint pair) { return min(uint(ids.at[pair]), n_experts - 1u); }

void main() {
  const uint lane = gl_LocalInvocationIndex;
  for (uint e = lane; e < n_experts; e += LANES) count[e] = 0u;
  barrier();
  for (uint p = lane; p < n_pairs; p += LANES) atomicAdd(count[expert_of(p)], 1u);
  barrier();
  if (lane == 0u) {
    uint begin = 0u, n_tiles = 0u;
    for (uint e = 0u; e < n_experts; ++e) {
      begins.at[e] = int(begin);
      next[e] = begin;
      for (uint first = 0u; first < count[e]; first += TILE) {
        tiles.at[2u * n_tiles] = int(e);
        tiles.at[2u * n_tiles + 1u] = int(begin + first);
        ++n_tiles;
      }
      begin += count[e];
    }
    begins.at[n_experts] = int(begin);
    groups.at[0] = int(row_groups);
    groups.at[1] = int(n_tiles);
    groups.at[2] = int(row_layers);
  }
  barrier();
  for (uint p = lane; p < n_pairs; p += LANES) pairs.at[atomicAdd(next[expert_of(p)], 1u)] = int(p);
}
