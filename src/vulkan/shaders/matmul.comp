#version 460
// Many tokens: y[t][r] = scale * sum_c W[r][c] * x[t][c], a tile of 32 rows and 32 tokens a workgroup. 32 columns at a
// time are decoded into shared memory once for all its tokens; an invocation has 4 x 4 sums.
//
// With n_experts > 0 the tokens are pairs (token, slot) sorted by expert (expert_sort.comp): tile i takes up to 32 pairs of
// expert tiles[2i] from place tiles[2i + 1] on; x is that of token pair / x_divisor.
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
#include "blocks.glsl"

const uint TILE = 32u, STEP = 32u, LANES = 64u;
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint FORMAT = 0u;
layout(push_constant) uniform Push {
  Words weights, tables;
  Floats x;
  WritableFloats y;
  Ints tiles, pairs, begins;
  uint n_rows, n_cols, row_bytes, n_tokens, x_stride, y_stride, expert_bytes, n_experts, x_divisor;
  float scale;
};
// A column more than there is: neighbours in a column are then in different banks.
shared float w_tile[TILE][STEP + 1u];
shared float x_tile[TILE][STEP + 1u];

void main() {
  const uint row = (gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x) * TILE;
  uint first = gl_WorkGroupID.y * TILE, end = n_tokens, expert_byte = 0u;
  if (n_experts != 0u) {
    const uint expert = uint(tiles.at[2u * gl_WorkGroupID.y]);
    first = uint(tiles.at[2u * gl_WorkGroupID.y + 1u]);
    end = uint(begins.at[expert + 1u]);
    expert_byte = expert * expert_bytes;
  }
  if (row >= n_rows) return;
  const uint lane = gl_LocalInvocationIndex;
  const uint my_row = 4u * (lane % 8u), my_token = 4u * (lane / 8u);

  float sum[4][4];
  [[unroll]] for (uint i = 0u; i < 16u; ++i) sum[i / 4u][i % 4u] = 0.0;
  for (uint column = 0u; column < n_cols; column += STEP) {
    barrier();
    [[unroll]] for (uint i = 0u; i < TILE * STEP / 8u; i += LANES) {
      const uint r = (i + lane) / 4u, o = (i + lane) % 4u;
      Eight w = Eight(vec4(0.0), vec4(0.0));
      if (row + r < n_rows && column + 8u * o < n_cols)
        w = load_eight(FORMAT, weights, tables, expert_byte + (row + r) * row_bytes, column / 8u + o, n_cols);
      [[unroll]] for (uint j = 0u; j < 4u; ++j) {
        w_tile[r][8u * o + j] = w.low[j];
        w_tile[r][8u * o + 4u + j] = w.high[j];
      }
    }
    for (uint i = lane; i < TILE * STEP; i += LANES) {
      const uint t = i / STEP, c = column + i % STEP;
      float value = 0.0;
      if (first + t < end && c < n_cols) {
        const uint token = n_experts != 0u ? uint(pairs.at[first + t]) / x_divisor : first + t;
        value = x.at[token * x_stride + c];
      }
      x_tile[t][i % STEP] = value;
    }
    barrier();
    for (uint c = 0u; c < STEP; ++c) {
      float w[4], v[4];
      [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        w[i] = w_tile[my_row + i][c];
        v[i] = x_tile[my_token + i][c];
      }
      [[unroll]] for (uint r = 0u; r < 4u; ++r)
        [[unroll]] for (uint t = 0u; t < 4u; ++t) sum[r][t] += w[r] * v[t];
    }
  }
  [[unroll]] for (uint t = 0u; t < 4u; ++t) {
    const uint place = first + my_token + t;
    if (place >= end) continue;
    const uint to = (n_experts != 0u ? uint(pairs.at[place]) : place) * y_stride + row + my_row;
    [[unroll]] for (uint r = 0u; r < 4u; ++r)
      if (row + my_row + r < n_rows) y.at[to + r] = scale * sum[r][t];
  }
}
