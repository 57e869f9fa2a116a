// Many tokens: y[t][r] = scale * sum_c W[r][c] * x[t][c], a tile of 32 rows and 32 tokens a workgroup. 32 columns at a
// time are decoded into shared memory once for all its tokens; an invocation has 4 x 4 sums.
//
// With n_experts > 0 the tokens are pairs (token, slot) sorted by expert (expert_sort.comp): tile i takes up to 32 pairs of
// expert tiles[2i] from place tiles[2i + 1] on; x is that of token pair / x_divisor. The weights are those of experts
// [first_expert, end_expert); tiles of any other are left alone.
//
// With INT8, x is rounded to bytes (quantize.comp): codes of x_stride bytes a row, a scale for 32 of them. As many octets
// of weights as share a scale are summed as integers, exactly, and then scaled. Not for F32, F16, BF16.
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
#include "blocks.glsl"
#ifdef INT8
#include "dot.glsl"
#endif

const uint TILE = 32u, STEP = 32u, LANES = 64u;
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint FORMAT = 0u;
layout(push_constant) uniform Push {
  Words weights, tables;
#ifdef INT8
  Words x;
#else
  Floats x;
#endif
  WritableFloats y;
  Ints tiles, pairs, begins;
  Floats x_scales;
  uint n_rows, n_cols, row_bytes, n_tokens, x_stride, y_stride, expert_bytes, n_experts, x_divisor;
  float scale;
  Floats expert_scales;
  uint first_expert, end_expert;
};

/// The row of x at a place of the order; `place` is below the end.
uint token_at(uint place) { return n_experts != 0u ? uint(pairs.at[place]) / x_divisor : place; }

// Tiles have a column more than there is: neighbours in a column are then in different banks.
#ifdef INT8
const uint OCTETS = STEP / 8u, WORDS = STEP / 4u;
shared uint w_codes[TILE][WORDS + 1u];
shared float w_scale[TILE][OCTETS + 1u];
shared float w_offset[TILE][OCTETS + 1u];
shared uint x_codes[TILE][WORDS + 1u];
shared float x_scale[TILE];
shared int x_sum[TILE][OCTETS + 1u];  // of the codes of an octet

void load_tiles(uint row, uint first, uint end, uint expert_byte, uint column) {
  const uint lane = gl_LocalInvocationIndex;
  [[unroll]] for (uint i = 0u; i < TILE * OCTETS; i += LANES) {
    const uint r = (i + lane) / OCTETS, o = (i + lane) % OCTETS;
    Octet w = Octet(uvec2(0u), 0.0, 0.0);
    if (row + r < n_rows) w = row_octet(FORMAT, weights, tables, expert_byte + (row + r) * row_bytes, column / 8u + o);
    w_codes[r][2u * o] = w.codes.x;
    w_codes[r][2u * o + 1u] = w.codes.y;
    w_scale[r][o] = w.scale;
    if (has_offset(FORMAT)) w_offset[r][o] = w.offset;
  }
  [[unroll]] for (uint i = 0u; i < TILE * OCTETS; i += LANES) {
    const uint t = (i + lane) / OCTETS, o = (i + lane) % OCTETS;
    uvec2 codes = uvec2(0u);
    float scale_of_x = 0.0;
    if (first + t < end) {
      const uint from = token_at(first + t) * x_stride + column + 8u * o;
      codes = uvec2(x.at[from / 4u], x.at[from / 4u + 1u]);
      scale_of_x = x_scales.at[from / 32u];
    }
    x_codes[t][2u * o] = codes.x;
    x_codes[t][2u * o + 1u] = codes.y;
    if (o == 0u) x_scale[t] = scale_of_x;
    if (has_offset(FORMAT)) x_sum[t][o] = dot8(uvec2(0x01010101u), codes);
  }
}

void multiply_tiles(uint my_row, uint my_token, inout float sum[4][4]) {
  const uint sharing = octets_of_a_scale(FORMAT);
  for (uint o = 0u; o < OCTETS; o += sharing) {
    int products[4][4];
    [[unroll]] for (uint i = 0u; i < 16u; ++i) products[i / 4u][i % 4u] = 0;
    for (uint word = 2u * o; word < 2u * (o + sharing); ++word) {
      uint w[4], v[4];
      [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        w[i] = w_codes[my_row + i][word];
        v[i] = x_codes[my_token + i][word];
      }
      [[unroll]] for (uint r = 0u; r < 4u; ++r)
        [[unroll]] for (uint t = 0u; t < 4u; ++t) products[r][t] += dot4(w[r], v[t], 0);
    }
    [[unroll]] for (uint t = 0u; t < 4u; ++t) {
      int of_x = 0;
      if (has_offset(FORMAT))
        for (uint i = 0u; i < sharing; ++i) of_x += x_sum[my_token + t][o + i];
      [[unroll]] for (uint r = 0u; r < 4u; ++r) {
        float value = w_scale[my_row + r][o] * float(products[r][t]);
        if (has_offset(FORMAT)) value += w_offset[my_row + r][o] * float(of_x);
        sum[r][t] += x_scale[my_token + t] * value;
      }
    }
  }
}
#else
shared float w_tile[TILE][STEP + 1u];
shared float x_tile[TILE][STEP + 1u];

void load_tiles(uint row, uint first, uint end, uint expert_byte, uint column) {
  const uint lane = gl_LocalInvocationIndex;
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
    x_tile[t][i % STEP] = first + t < end && c < n_cols ? x.at[token_at(first + t) * x_stride + c] : 0.0;
  }
}

void multiply_tiles(uint my_row, uint my_token, inout float sum[4][4]) {
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
#endif

void main() {
  const uint row = (gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x) * TILE;
  uint first = gl_WorkGroupID.y * TILE, end = n_tokens, expert_byte = 0u;
  float factor = scale;
  if (n_experts != 0u) {
    const uint expert = uint(tiles.at[2u * gl_WorkGroupID.y]);
    if (expert < first_expert || expert >= end_expert) return;
    first = uint(tiles.at[2u * gl_WorkGroupID.y + 1u]);
    end = uint(begins.at[expert + 1u]);
    expert_byte = (expert - first_expert) * expert_bytes;
    if (uvec2(expert_scales) != uvec2(0u)) factor *= expert_scales.at[expert];
  }
  if (row >= n_rows) return;
  const uint lane = gl_LocalInvocationIndex;
  const uint my_row = 4u * (lane % 8u), my_token = 4u * (lane / 8u);

  float sum[4][4];
  [[unroll]] for (uint i = 0u; i < 16u; ++i) sum[i / 4u][i % 4u] = 0.0;
  for (uint column = 0u; column < n_cols; column += STEP) {
    barrier();
    load_tiles(row, first, end, expert_byte, column);
    barrier();
    multiply_tiles(my_row, my_token, sum);
  }
  [[unroll]] for (uint t = 0u; t < 4u; ++t) {
    const uint place = first + my_token + t;
    if (place >= end) continue;
    const uint to = (n_experts != 0u ? uint(pairs.at[place]) : place) * y_stride + row + my_row;
    [[unroll]] for (uint r = 0u; r < 4u; ++r)
      if (row + my_row + r < n_rows) y.at[to + r] = factor * sum[r][t];
  }
}
