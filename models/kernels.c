// The parts of a training step that are not matrix products, for processors. PyTorch would walk over memory
// several times for each of them; here each is one pass. ops.py holds the same mathematics in plain PyTorch,
// which other devices use, and test_ops.py compares the two.
//
// All arrays are float32 and contiguous. DK and DV are the widths of a DeltaNet key and value head; as
// constants they let the compiler keep a row of the state in registers.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifndef DK
#define DK 64
#endif
#ifndef DV
#define DV 64
#endif
#define CHUNK 32  // states kept for the backward pass: one in so many tokens; the rest is computed again

static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// ---- RMS norm over the last dimension: y = x / rms(x) * w ----

void rms_norm_forward(long n, long width, const float* x, const float* w, float eps, float* y, float* inv) {
#pragma omp parallel for
  for (long r = 0; r < n; ++r) {
    const float* xr = x + r * width;
    float sum = 0;
    for (long i = 0; i < width; ++i) sum += xr[i] * xr[i];
    const float scale = 1.0f / sqrtf(sum / (float)width + eps);
    inv[r] = scale;
    for (long i = 0; i < width; ++i) y[r * width + i] = xr[i] * scale * w[i];
  }
}

void rms_norm_backward(long n, long width, const float* x, const float* w, const float* inv, const float* dy,
                       float* dx, float* dw) {
#pragma omp parallel
  {
    float* own = calloc((size_t)width, sizeof(float));
#pragma omp for
    for (long r = 0; r < n; ++r) {
      const float *xr = x + r * width, *dyr = dy + r * width;
      const float scale = inv[r];
      float dot = 0;
      for (long i = 0; i < width; ++i) dot += dyr[i] * w[i] * xr[i];
      const float back = dot * scale * scale * scale / (float)width;
      for (long i = 0; i < width; ++i) {
        dx[r * width + i] = dyr[i] * w[i] * scale - xr[i] * back;
        own[i] += dyr[i] * xr[i] * scale;
      }
    }
#pragma omp critical
    for (long i = 0; i < width; ++i) dw[i] += own[i];
    free(own);
  }
}

// ---- RMS norm, then a gate: y = o / rms(o) * w * silu(z), rows of DV ----

void gated_norm_forward(long n, const float* o, const float* z, const float* w, float eps, float* y) {
#pragma omp parallel for
  for (long r = 0; r < n; ++r) {
    const float *or_ = o + r * DV, *zr = z + r * DV;
    float sum = 0;
    for (int i = 0; i < DV; ++i) sum += or_[i] * or_[i];
    const float scale = 1.0f / sqrtf(sum / DV + eps);
    for (int i = 0; i < DV; ++i) y[r * DV + i] = or_[i] * scale * w[i] * zr[i] * sigmoid(zr[i]);
  }
}

void gated_norm_backward(long n, const float* o, const float* z, const float* w, float eps, const float* dy,
                         float* d_o, float* dz, float* dw) {
#pragma omp parallel
  {
    float own[DV] = {0};
#pragma omp for
    for (long r = 0; r < n; ++r) {
      const float *or_ = o + r * DV, *zr = z + r * DV, *dyr = dy + r * DV;
      float sum = 0, dot = 0, normed[DV], d_normed[DV];
      for (int i = 0; i < DV; ++i) sum += or_[i] * or_[i];
      const float scale = 1.0f / sqrtf(sum / DV + eps);
      for (int i = 0; i < DV; ++i) {
        const float s = sigmoid(zr[i]), gate = zr[i] * s;
        normed[i] = or_[i] * scale;
        dz[r * DV + i] = dyr[i] * normed[i] * w[i] * (s + gate * (1.0f - s));
        own[i] += dyr[i] * normed[i] * gate;
        d_normed[i] = dyr[i] * w[i] * gate;
        dot += d_normed[i] * normed[i];
      }
      for (int i = 0; i < DV; ++i) d_o[r * DV + i] = scale * (d_normed[i] - normed[i] * dot / DV);
    }
#pragma omp critical
    for (int i = 0; i < DV; ++i) dw[i] += own[i];
  }
}

// ---- silu(gate) * up, rows of [gate | up] ----

void swiglu_forward(long n, long width, const float* h, float* y) {
#pragma omp parallel for
  for (long r = 0; r < n; ++r) {
    const float *gate = h + r * 2 * width, *up = gate + width;
    for (long i = 0; i < width; ++i) y[r * width + i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
}

void swiglu_backward(long n, long width, const float* h, const float* dy, float* dh) {
#pragma omp parallel for
  for (long r = 0; r < n; ++r) {
    const float *gate = h + r * 2 * width, *up = gate + width, *dyr = dy + r * width;
    float *d_gate = dh + r * 2 * width, *d_up = d_gate + width;
    for (long i = 0; i < width; ++i) {
      const float s = sigmoid(gate[i]), act = gate[i] * s;
      d_up[i] = dyr[i] * act;
      d_gate[i] = dyr[i] * up[i] * (s + act * (1.0f - s));
    }
  }
}

// ---- rows of experts: from token order to expert order and back ----

// y [n k, width] in expert order; place [n k]: where the pair (token, slot) stands. out[t] = sum of scale * y.
void combine(long n, long k, long width, const float* y, const long* place, const float* scale, float* out) {
#pragma omp parallel for
  for (long t = 0; t < n; ++t)
    for (long s = 0; s < k; ++s) {
      const long at = place[t * k + s];
      const float* row = y + at * width;
      const float w = scale ? scale[at] : 1.0f;
      if (s == 0)
        for (long i = 0; i < width; ++i) out[t * width + i] = w * row[i];
      else
        for (long i = 0; i < width; ++i) out[t * width + i] += w * row[i];
    }
}

// The other way: dy[r] = scale[r] * d_out[order[r] / k], d_scale[r] = y[r] . d_out[order[r] / k].
void spread(long n, long k, long width, const float* y, const long* order, const float* scale,
            const float* d_out, float* dy, float* d_scale) {
#pragma omp parallel for
  for (long r = 0; r < n * k; ++r) {
    const float* d = d_out + order[r] / k * width;
    float dot = 0;
    for (long i = 0; i < width; ++i) {
      dot += y[r * width + i] * d[i];
      dy[r * width + i] = scale[r] * d[i];
    }
    d_scale[r] = dot;
  }
}

// ---- causal convolution of four taps over time, then silu; x [b, t, c], w [4, c], tap 3 is the current ----

static void convolve(long t, long c, const float* x, const float* w, float* row) {
  for (long i = 0; i < c; ++i) row[i] = w[3 * c + i] * x[t * c + i];
  for (long j = 0; j < 3; ++j)
    if (t - 3 + j >= 0)
      for (long i = 0; i < c; ++i) row[i] += w[j * c + i] * x[(t - 3 + j) * c + i];
}

void conv_silu_forward(long b, long t, long c, const float* x, const float* w, float* y) {
#pragma omp parallel for collapse(2)
  for (long s = 0; s < b; ++s)
    for (long i = 0; i < t; ++i) {
      float* row = y + (s * t + i) * c;
      convolve(i, c, x + s * t * c, w, row);
      for (long k = 0; k < c; ++k) row[k] = row[k] * sigmoid(row[k]);
    }
}

// dw [b, 4, c]: one sum a sequence.
void conv_silu_backward(long b, long t, long c, const float* x, const float* w, const float* dy, float* dx,
                        float* dw) {
#pragma omp parallel
  {
    float* pre = malloc((size_t)c * sizeof(float));
#pragma omp for
    for (long s = 0; s < b; ++s) {
      const float *xs = x + s * t * c, *dys = dy + s * t * c;
      float *dxs = dx + s * t * c, *dws = dw + s * 4 * c;
      memset(dxs, 0, (size_t)(t * c) * sizeof(float));
      memset(dws, 0, (size_t)(4 * c) * sizeof(float));
      for (long i = 0; i < t; ++i) {
        convolve(i, c, xs, w, pre);
        for (long k = 0; k < c; ++k) {
          const float g = sigmoid(pre[k]);
          pre[k] = dys[i * c + k] * (g + pre[k] * g * (1.0f - g));
        }
        for (long j = 0; j < 4; ++j) {
          const long at = i - 3 + j;
          if (at < 0) continue;
          for (long k = 0; k < c; ++k) {
            dxs[at * c + k] += w[j * c + k] * pre[k];
            dws[j * c + k] += xs[at * c + k] * pre[k];
          }
        }
      }
    }
    free(pre);
  }
}

// ---- the gated delta rule, token by token ----
//
// A head's state is 16 kB and stays in the first-level cache, which makes the recurrent form faster here than
// the chunked one: a sixth of the arithmetic. qkv [b, t, 2 nk DK + nv DV] after the convolution; q and k are
// normalised here. g (log of the decay) and beta [b, t, nv]; o [b, t, nv, DV];
// states [b, nv, ceil(t / CHUNK), DK, DV]: what the memory held before each chunk.

static void normalise(const float* x, float scale, float* y, float* inv) {
  float sum = 0;
  for (int i = 0; i < DK; ++i) sum += x[i] * x[i];
  *inv = 1.0f / sqrtf(sum + 1e-6f);
  for (int i = 0; i < DK; ++i) y[i] = x[i] * *inv * scale;
}

// x the raw vector, d the gradient of the normalised (and scaled) one; adds to dx.
static void normalise_backward(const float* x, float inv, float scale, const float* d, float* dx) {
  float dot = 0;
  for (int i = 0; i < DK; ++i) dot += d[i] * x[i];
  for (int i = 0; i < DK; ++i) dx[i] += scale * inv * (d[i] - x[i] * dot * inv * inv);
}

static void delta_token(float* S, const float* k, const float* v, float decay, float beta, float* u) {
  float read[DV] = {0};
  for (int i = 0; i < DK; ++i)
    for (int j = 0; j < DV; ++j) {
      S[i * DV + j] *= decay;
      read[j] += k[i] * S[i * DV + j];
    }
  for (int j = 0; j < DV; ++j) u[j] = beta * (v[j] - read[j]);
}

void delta_forward(long b, long t, long nk, long nv, const float* qkv, const float* g, const float* beta,
                   float* o, float* states) {
  const long r = nv / nk, width = 2 * nk * DK + nv * DV, n_chunks = (t + CHUNK - 1) / CHUNK;
  const float scale = 1.0f / sqrtf(DK);
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (long s = 0; s < b; ++s)
    for (long h = 0; h < nv; ++h) {
      float S[DK * DV] __attribute__((aligned(64))) = {0};
      for (long i = 0; i < t; ++i) {
        const float* row = qkv + (s * t + i) * width;
        float q[DK], k[DK], u[DV], out[DV] = {0}, inv;
        if (i % CHUNK == 0) memcpy(states + ((s * nv + h) * n_chunks + i / CHUNK) * DK * DV, S, sizeof(S));
        normalise(row + h / r * DK, scale, q, &inv);
        normalise(row + (nk + h / r) * DK, 1.0f, k, &inv);
        const long at = (s * t + i) * nv + h;
        delta_token(S, k, row + 2 * nk * DK + h * DV, expf(g[at]), beta[at], u);
        for (int a = 0; a < DK; ++a)
          for (int j = 0; j < DV; ++j) {
            S[a * DV + j] += k[a] * u[j];
            out[j] += q[a] * S[a * DV + j];
          }
        memcpy(o + at * DV, out, sizeof(out));
      }
    }
}

// One key head of one sequence with its value heads, so that d_qkv has one writer.
static void delta_backward_head(long t, long nk, long nv, long head, long h, const float* qkv, const float* g,
                                const float* beta, const float* states, const float* d_o, float* d_qkv,
                                float* dg, float* dbeta, float* before) {
  const long width = 2 * nk * DK + nv * DV, n_chunks = (t + CHUNK - 1) / CHUNK;
  const float scale = 1.0f / sqrtf(DK);
  float dS[DK * DV] __attribute__((aligned(64))) = {0};
  float us[CHUNK][DV], qs[CHUNK][DK], ks[CHUNK][DK], q_inv[CHUNK], k_inv[CHUNK];
  for (long chunk = n_chunks - 1; chunk >= 0; --chunk) {
    const long first = chunk * CHUNK, n = t - first < CHUNK ? t - first : CHUNK;
    memcpy(before, states + (h * n_chunks + chunk) * DK * DV, sizeof(dS));
    for (long i = 0; i < n; ++i) {  // forward again, keeping the decayed state of each token
      const float* row = qkv + (first + i) * width;
      const long at = (first + i) * nv + h;
      float* S = before + i * DK * DV;
      normalise(row + head * DK, scale, qs[i], &q_inv[i]);
      normalise(row + (nk + head) * DK, 1.0f, ks[i], &k_inv[i]);
      delta_token(S, ks[i], row + 2 * nk * DK + h * DV, expf(g[at]), beta[at], us[i]);
      if (i + 1 < n)
        for (int a = 0; a < DK; ++a)
          for (int j = 0; j < DV; ++j) S[(DK + a) * DV + j] = S[a * DV + j] + ks[i][a] * us[i][j];
    }
    for (long i = n - 1; i >= 0; --i) {
      const float *row = qkv + (first + i) * width, *S = before + i * DK * DV;
      float *d_row = d_qkv + (first + i) * width, *dv = d_row + 2 * nk * DK + h * DV;
      const long at = (first + i) * nv + h;
      const float *q = qs[i], *k = ks[i], *u = us[i], decay = expf(g[at]);
      float out[DV], du[DV] = {0}, dp[DV], dq[DK], dk[DK], d_log = 0, u_out = 0, to_beta = 0;
      memcpy(out, d_o + at * DV, sizeof(out));
      for (int a = 0; a < DK; ++a) {
        float dot = 0;
        for (int j = 0; j < DV; ++j) {
          const float d = dS[a * DV + j] + q[a] * out[j];
          dS[a * DV + j] = d;
          du[j] += k[a] * d;
          dot += d * u[j];
        }
        dk[a] = dot;
      }
      for (int j = 0; j < DV; ++j) {
        dv[j] = beta[at] * du[j];
        dp[j] = -dv[j];
        to_beta += du[j] * u[j];  // u / beta is what was missing
        u_out += u[j] * out[j];
      }
      dbeta[at] = to_beta / beta[at];
      for (int a = 0; a < DK; ++a) {
        float dot_q = 0, dot_k = 0;
        for (int j = 0; j < DV; ++j) {
          const float m = S[a * DV + j], d = dS[a * DV + j] + k[a] * dp[j];
          dot_q += m * out[j];
          dot_k += m * dp[j];
          d_log += m * d;
          dS[a * DV + j] = d * decay;
        }
        dq[a] = dot_q + k[a] * u_out;
        dk[a] += dot_k;
      }
      dg[at] = d_log;
      normalise_backward(row + head * DK, q_inv[i], scale, dq, d_row + head * DK);
      normalise_backward(row + (nk + head) * DK, k_inv[i], 1.0f, dk, d_row + (nk + head) * DK);
    }
  }
}

// d_qkv must be zero on entry.
void delta_backward(long b, long t, long nk, long nv, const float* qkv, const float* g, const float* beta,
                    const float* states, const float* d_o, float* d_qkv, float* dg, float* dbeta) {
  const long r = nv / nk, width = 2 * nk * DK + nv * DV, n_chunks = (t + CHUNK - 1) / CHUNK;
#pragma omp parallel
  {
    float* before = aligned_alloc(64, sizeof(float) * CHUNK * DK * DV);
#pragma omp for collapse(2) schedule(dynamic)
    for (long s = 0; s < b; ++s)
      for (long head = 0; head < nk; ++head)
        for (long h = head * r; h < (head + 1) * r; ++h)
          delta_backward_head(t, nk, nv, head, h, qkv + s * t * width, g + s * t * nv, beta + s * t * nv,
                              states + s * nv * n_chunks * DK * DV, d_o + s * t * nv * DV,
                              d_qkv + s * t * width, dg + s * t * nv, dbeta + s * t * nv, before);
    free(before);
  }
}
