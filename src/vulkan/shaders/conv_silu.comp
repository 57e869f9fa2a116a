#version 460
// Causal convolution over time, each channel by itself, then silu; an invocation has one channel and all tokens:
// out[t][c] = silu(sum_j weight[c][j] * row(t - (TAPS - 1) + j)[c]), rows before the first being the history
// [TAPS - 1, channels], oldest first. Afterwards the history holds the last rows. out may be x.
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint TAPS = 4u;
#include "math.glsl"
#include "memory.glsl"

layout(push_constant) uniform Push {
  Floats x, weight;
  WritableFloats history, y;
  uint n_channels, n_tokens, x_stride, y_stride;
};

void main() {
  const uint c = gl_GlobalInvocationID.x;
  if (c >= n_channels) return;
  float row[TAPS], tap[TAPS];
  [[unroll]] for (uint j = 0u; j < TAPS; ++j) {
    tap[j] = weight.at[c * TAPS + j];
    row[j] = j == 0u ? 0.0 : history.at[(j - 1u) * n_channels + c];
  }
  for (uint t = 0u; t < n_tokens; ++t) {
    float sum = 0.0;
    [[unroll]] for (uint j = 0u; j + 1u < TAPS; ++j) row[j] = row[j + 1u];
    row[TAPS - 1u] = x.at[t * x_stride + c];
    [[unroll]] for (uint j = 0u; j < TAPS; ++j) sum += tap[j] * row[j];
    y.at[t * y_stride + c] = silu(sum);
  }
  [[unroll]] for (uint j = 1u; j < TAPS; ++j) history.at[(j - 1u) * n_channels + c] = row[j];
}
