// With INT8, x is rounded to bytes (quantize.comp): codes of n_cols bytes a row, a scale for 32 of them. The products of
// four bytes each are summed as integers, exactly; an octet's sum is then scaled. Not for F32, F16, BF16.
//
// Few tokens: y[t][r] = scale * sum_c W[r][c] * x[t][c]. A workgroup takes ROWS rows and TOKENS tokens; its
// invocations take octets of the rows in turn.
//
// With n_experts > 0 a "token" is a pair (token, slot): W is that of expert ids[pair], x that of token pair / x_divisor.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "memory.glsl"
#include "blocks.glsl"
#ifdef INT8
#include "dot.glsl"
#endif

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint LANES = 32u;
layout(constant_id = 1) const uint FORMAT = 0u;
layout(constant_id = 2) const uint ROWS = 1u;
layout(constant_id = 3) const uint TOKENS = 1u;
layout(push_constant) uniform Push {
  Words weights, tables;
#ifdef INT8
  Words x;
#else
  Floats x;
#endif
  WritableFloats y;
  Ints ids;
  Floats x_scales;
  uint n_rows, n_cols, row_bytes, n_tokens, x_stride, y_stride, expert_bytes, n_experts, x_divisor;
  float scale;
  Floats expert_scales;
};
shared float partial[LANES * ROWS * TOKENS];

void main() {
  const uint row = (gl_WorkGroupID.x + gl_WorkGroupID.z * gl_NumWorkGroups.x) * ROWS;
  const uint token = gl_WorkGroupID.y * TOKENS;
  if (row >= n_rows) return;
  uint expert_byte = 0u;
  float factor = scale;
  if (n_experts != 0u) {
    const uint expert = min(uint(ids.at[token]), n_experts - 1u);
    expert_byte = expert * expert_bytes;
    if (uvec2(expert_scales) != uvec2(0u)) factor *= expert_scales.at[expert];
  }

  float sum[ROWS * TOKENS];
  [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; ++i) sum[i] = 0.0;
  const uint n_octets = (n_cols + 7u) / 8u;
  for (uint o = gl_LocalInvocationIndex; o < n_octets; o += LANES) {
#ifdef INT8
    uvec2 codes[TOKENS];
    float x_scale[TOKENS];
    int code_sum[TOKENS];
#else
    vec4 x_low[TOKENS], x_high[TOKENS];
#endif
    [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
      // Tokens and rows past the end are computed from the last one and not written.
      const uint from = min(token + t, n_tokens - 1u) / x_divisor * x_stride + 8u * o;
#ifdef INT8
      codes[t] = uvec2(x.at[from / 4u], x.at[from / 4u + 1u]);
      x_scale[t] = x_scales.at[from / 32u];
      code_sum[t] = dot8(uvec2(0x01010101u), codes[t]);
#else
      [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        x_low[t][i] = 8u * o + i < n_cols ? x.at[from + i] : 0.0;
        x_high[t][i] = 8u * o + 4u + i < n_cols ? x.at[from + 4u + i] : 0.0;
      }
#endif
    }
    [[unroll]] for (uint r = 0u; r < ROWS; ++r) {
      const uint at = expert_byte + min(row + r, n_rows - 1u) * row_bytes;
#ifdef INT8
      const Octet w = row_octet(FORMAT, weights, tables, at, o);
      [[unroll]] for (uint t = 0u; t < TOKENS; ++t) {
        float value = w.scale * float(dot8(w.codes, codes[t]));
        if (has_offset(FORMAT)) value += w.offset * float(code_sum[t]);
        sum[r * TOKENS + t] += x_scale[t] * value;
      }
#else
      const Eight w = load_eight(FORMAT, weights, tables, at, o, n_cols);
      [[unroll]] for (uint t = 0u; t < TOKENS; ++t)
        sum[r * TOKENS + t] += dot(w.low, x_low[t]) + dot(w.high, x_high[t]);
#endif
    }
  }

  [[unroll]] for (uint i = 0u; i < ROWS * TOKENS; ++i) {
    const float part = subgroupAdd(sum[i]);
    if (subgroupElect()) partial[gl_SubgroupID * ROWS * TOKENS + i] = part;
  }
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < ROWS * TOKENS; i += LANES) {
    float total = 0.0;
    for (uint s = 0u; s < gl_NumSubgroups; ++s) total += partial[s * ROWS * TOKENS + i];
    const uint r = row + i / TOKENS, t = token + i % TOKENS;
    if (r < n_rows && t < n_tokens) y.at[t * y_stride + r] = factor * total;
  }
}
