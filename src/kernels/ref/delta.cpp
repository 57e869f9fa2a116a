// The scalar reference of the gated delta rule, token by token and in chunks, sums in double.
//
// The columns of S do not depend on each other (u[j] needs only column j of S), so both go through S in
// blocks of columns, which bounds what must be held in double.
#include <algorithm>
#include <cmath>

#include "kernels/common/delta_scratch.h"
#include "kernels/variants.h"

namespace packmule::kernels {

int64_t delta_scratch_floats(int64_t dk, int64_t /*dv*/) {
  return delta_scratch_total(dk);
}

namespace ref {
namespace {

constexpr int64_t kBlock = 32;  // columns held in double at a time

double dot(const float* x, const float* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * y[i];
  return sum;
}

// One token for columns [begin, begin + width) of S. S is rounded to float after each token, so that it makes
// no difference how tokens are spread over calls.
void step(const DeltaArgs& args, int64_t t, int64_t begin, int64_t width) {
  const float* q = args.q + t * args.qk_stride;
  const float* k = args.k + t * args.qk_stride;
  const double decay = std::exp(static_cast<double>(args.g[t * args.gate_stride]));
  double read[kBlock] = {};
  for (int64_t i = 0; i < args.dk; ++i) {
    const float* row = args.state + i * args.dv + begin;
    for (int64_t j = 0; j < width; ++j) read[j] += row[j] * decay * k[i];
  }
  double u[kBlock];
  for (int64_t j = 0; j < width; ++j)
    u[j] = args.beta[t * args.gate_stride] * (args.v[t * args.v_stride + begin + j] - read[j]);
  double out[kBlock] = {};
  for (int64_t i = 0; i < args.dk; ++i) {
    float* row = args.state + i * args.dv + begin;
    for (int64_t j = 0; j < width; ++j) {
      const double written = row[j] * decay + k[i] * u[j];
      out[j] += written * q[i];
      row[j] = static_cast<float>(written);
    }
  }
  for (int64_t j = 0; j < width; ++j) args.out[t * args.out_stride + begin + j] = static_cast<float>(out[j]);
}

void delta_recurrent(const DeltaArgs& args) {
  for (int64_t begin = 0; begin < args.dv; begin += kBlock)
    for (int64_t t = 0; t < args.n_tokens; ++t) step(args, t, begin, std::min(kBlock, args.dv - begin));
}

// What a chunk's tokens have to do with each other, the same for every column.
struct Chunk {
  int64_t n = 0;                           // tokens
  double decay[kDeltaChunk];               // of S, from the chunk's start up to and with token t
  double remaining[kDeltaChunk];           // of what token t writes, up to the chunk's end
  double write[kDeltaChunk][kDeltaChunk];  // beta_t * decay(s..t] * k_t.k_s for s < t
  double read[kDeltaChunk][kDeltaChunk];   // decay(s..t] * q_t.k_s for s <= t
};

void prepare(const DeltaArgs& args, int64_t first, Chunk& chunk) {
  double total[kDeltaChunk];  // log decay from the chunk's start
  double sum = 0;
  for (int64_t t = 0; t < chunk.n; ++t) total[t] = sum += args.g[(first + t) * args.gate_stride];
  for (int64_t t = 0; t < chunk.n; ++t) {
    chunk.decay[t] = std::exp(total[t]);
    chunk.remaining[t] = std::exp(total[chunk.n - 1] - total[t]);
    const float* q = args.q + (first + t) * args.qk_stride;
    const float* k = args.k + (first + t) * args.qk_stride;
    // Only pairs s <= t exist: the exponent of the others would be positive and overflow.
    for (int64_t s = 0; s <= t; ++s) {
      const float* earlier = args.k + (first + s) * args.qk_stride;
      const double decay = std::exp(total[t] - total[s]);
      chunk.write[t][s] = args.beta[(first + t) * args.gate_stride] * decay * dot(k, earlier, args.dk);
      chunk.read[t][s] = decay * dot(q, earlier, args.dk);
    }
  }
}

// Token t writes k_t u_t^T. Its u_t = beta_t (v_t - what S holds under k_t) contains the writes of the tokens
// before it in the chunk: a unit lower triangular system, solved from the first token down.
void apply(const DeltaArgs& args, int64_t first, const Chunk& chunk, int64_t begin, int64_t width) {
  double u[kDeltaChunk][kBlock];
  for (int64_t t = 0; t < chunk.n; ++t) {
    const float* q = args.q + (first + t) * args.qk_stride;
    const float* k = args.k + (first + t) * args.qk_stride;
    const float* v = args.v + (first + t) * args.v_stride + begin;
    const double beta = args.beta[(first + t) * args.gate_stride];
    double held[kBlock] = {};
    double out[kBlock] = {};
    for (int64_t i = 0; i < args.dk; ++i) {
      const float* row = args.state + i * args.dv + begin;
      for (int64_t j = 0; j < width; ++j) {
        held[j] += static_cast<double>(row[j]) * k[i];
        out[j] += static_cast<double>(row[j]) * q[i];
      }
    }
    for (int64_t j = 0; j < width; ++j) u[t][j] = beta * (v[j] - chunk.decay[t] * held[j]);
    for (int64_t s = 0; s < t; ++s)
      for (int64_t j = 0; j < width; ++j) u[t][j] -= chunk.write[t][s] * u[s][j];
    for (int64_t j = 0; j < width; ++j) out[j] *= chunk.decay[t];
    for (int64_t s = 0; s <= t; ++s)
      for (int64_t j = 0; j < width; ++j) out[j] += chunk.read[t][s] * u[s][j];
    float* to = args.out + (first + t) * args.out_stride + begin;
    for (int64_t j = 0; j < width; ++j) to[j] = static_cast<float>(out[j]);
  }
  for (int64_t i = 0; i < args.dk; ++i) {
    float* row = args.state + i * args.dv + begin;
    for (int64_t j = 0; j < width; ++j) {
      double sum = row[j] * chunk.decay[chunk.n - 1];
      for (int64_t t = 0; t < chunk.n; ++t)
        sum += args.k[(first + t) * args.qk_stride + i] * chunk.remaining[t] * u[t][j];
      row[j] = static_cast<float>(sum);
    }
  }
}

void delta_chunked(const DeltaArgs& args) {
  Chunk chunk;
  for (int64_t first = 0; first < args.n_tokens; first += kDeltaChunk) {
    chunk.n = std::min(kDeltaChunk, args.n_tokens - first);
    prepare(args, first, chunk);
    for (int64_t begin = 0; begin < args.dv; begin += kBlock)
      apply(args, first, chunk, begin, std::min(kBlock, args.dv - begin));
  }
}

}  // namespace

void fill_delta(Kernels& kernels) {
  kernels.delta_recurrent = delta_recurrent;
  kernels.delta_chunked = delta_chunked;
}

}  // namespace ref
}  // namespace packmule::kernels
