#version 460
// Attention of query rows that share a KV head, over one sequence's cache, by blocks of 16 tokens with an online
// softmax (Milakov and Gimelshein, 2018; Dao et al., 2022). A workgroup takes QUERIES of them (x), one KV head (y)
// and one of n_splits parts of the tokens (z); attention_merge.comp puts the parts together.
//
// Query row i of a KV head is head i % group of token i / group, at q + token * q_stride + (kv_head * group + head) *
// head_dim. It sees the cached tokens [0, visible[token]).
//   pages[p]   address of the page of tokens [64 p, 64 p + 64): this KV head's row of token t is at
//              k_offset + kv_head * 64 * k_row_bytes + (t % 64) * k_row_bytes, V's alike
//   parts      per split, KV head and query row: head_dim sums, then the largest score and the total of
//              exp(score - largest): n_splits * n_kv * n_rows * (head_dim + 2) floats
#extension GL_GOOGLE_include_directive : require
const uint QUERIES = 8u, TOKENS = 16u, LANES = 128u, PAGE = 64u;
layout(local_size_x = 128) in;
layout(constant_id = 0) const uint K_FORMAT = 1u;
layout(constant_id = 1) const uint V_FORMAT = 1u;
layout(constant_id = 2) const uint HEAD_DIM = 256u;
#include "math.glsl"
#include "memory.glsl"
#include "blocks.glsl"

layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer Pages { uvec2 at[]; };
layout(push_constant) uniform Push {
  Floats q;
  Ints visible;
  Pages pages;
  WritableFloats parts;
  uint n_rows, group, q_stride, k_offset, v_offset, k_row_bytes, v_row_bytes, n_splits;
  float scale;
};
const uint SUMS = (HEAD_DIM + LANES / QUERIES - 1u) / (LANES / QUERIES);  // an invocation's share of a row
shared float query[QUERIES][HEAD_DIM];
shared float row[TOKENS][HEAD_DIM + 1u];  // K, then V
shared float score[QUERIES][TOKENS];

/// Decodes the block's rows of K or V into shared memory.
void load_rows(uint format, uint offset, uint row_bytes, uint first, uint end) {
  const uint n_octets = (HEAD_DIM + 7u) / 8u;
  for (uint i = gl_LocalInvocationIndex; i < TOKENS * n_octets; i += LANES) {
    const uint t = i / n_octets, o = i % n_octets;
    Eight x = Eight(vec4(0.0), vec4(0.0));
    if (first + t < end) {
      const uint at = offset + (gl_WorkGroupID.y * PAGE + (first + t) % PAGE) * row_bytes;
      x = load_eight(format, Words(pages.at[(first + t) / PAGE]), Words(uvec2(0u)), at, o, HEAD_DIM);
    }
    [[unroll]] for (uint j = 0u; j < 4u; ++j) {
      if (8u * o + j < HEAD_DIM) row[t][8u * o + j] = x.low[j];
      if (8u * o + 4u + j < HEAD_DIM) row[t][8u * o + 4u + j] = x.high[j];
    }
  }
}

void main() {
  const uint lane = gl_LocalInvocationIndex;
  const uint first_row = gl_WorkGroupID.x * QUERIES, n_kv = gl_NumWorkGroups.y, kv_head = gl_WorkGroupID.y;

  // The last row of the workgroup sees the most: visible[] never falls from token to token.
  const uint last_row = min(first_row + QUERIES, n_rows) - 1u;
  const uint most = uint(visible.at[last_row / group]);
  // Parts are whole blocks of all that is seen.
  const uint blocks = (most + TOKENS - 1u) / TOKENS, part_blocks = (blocks + n_splits - 1u) / n_splits;
  const uint begin = gl_WorkGroupID.z * part_blocks * TOKENS;
  const uint end = min(most, begin + part_blocks * TOKENS);

  for (uint i = lane; i < QUERIES * HEAD_DIM; i += LANES) {
    const uint r = first_row + i / HEAD_DIM, d = i % HEAD_DIM;
    query[i / HEAD_DIM][d] =
        r < n_rows ? q.at[r / group * q_stride + (kv_head * group + r % group) * HEAD_DIM + d] : 0.0;
  }
  // For sums, LANES / QUERIES invocations share a row; for scores, each has a (row, token) pair: the same row.
  const uint mine = lane / (LANES / QUERIES), part = lane % (LANES / QUERIES);
  const uint my_row = first_row + mine;
  const uint sees = my_row < n_rows ? uint(visible.at[my_row / group]) : 0u;
  float largest = uintBitsToFloat(0xff800000u), total = 0.0;
  float sum[SUMS];
  [[unroll]] for (uint s = 0u; s < SUMS; ++s) sum[s] = 0.0;

  for (uint first = begin; first < end; first += TOKENS) {
    barrier();
    load_rows(K_FORMAT, k_offset, k_row_bytes, first, end);
    barrier();
    float dot_product = 0.0;
    for (uint d = 0u; d < HEAD_DIM; ++d) dot_product += query[mine][d] * row[part][d];
    // What a row does not see counts nothing.
    score[mine][part] = first + part < min(sees, end) ? dot_product * scale : uintBitsToFloat(0xff800000u);
    barrier();
    load_rows(V_FORMAT, v_offset, v_row_bytes, first, end);
    float now = largest;
    [[unroll]] for (uint t = 0u; t < TOKENS; ++t) now = max(now, score[mine][t]);
    // Nothing seen so far: no finite maximum, and exp(-inf - -inf) is no number.
    const bool any = now > uintBitsToFloat(0xff800000u);
    const float shrink = any ? exp_exact(largest - now) : 1.0;
    barrier();
    total *= shrink;
    [[unroll]] for (uint s = 0u; s < SUMS; ++s) sum[s] *= shrink;
    for (uint t = 0u; t < TOKENS; ++t) {
      const float p = any ? exp_exact(score[mine][t] - now) : 0.0;
      total += p;
      // A weight of 0 times an infinite or NaN value that is not seen would be NaN.
      if (first + t < sees)
        [[unroll]] for (uint s = 0u; s < SUMS; ++s) {
          const uint d = s * (LANES / QUERIES) + part;
          if (d < HEAD_DIM) sum[s] += p * row[t][d];
        }
    }
    largest = now;
  }
  if (my_row >= n_rows) return;
  const uint to = ((gl_WorkGroupID.z * n_kv + kv_head) * n_rows + my_row) * (HEAD_DIM + 2u);
  [[unroll]] for (uint s = 0u; s < SUMS; ++s) {
    const uint d = s * (LANES / QUERIES) + part;
    if (d < HEAD_DIM) parts.at[to + d] = sum[s];
  }
  if (part == 0u) {
    parts.at[to + HEAD_DIM] = largest;
    parts.at[to + HEAD_DIM + 1u] = total;
  }
}
