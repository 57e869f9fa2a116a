// How fast the kernels of this processor are, by trying them out: what the planner is told about the host.
//
// Each measurement runs the kernel itself on memory larger than the caches, with all threads, work handed out
// as the model does it. Numbers are what decoding and prompts reach, so the planner needs no factor for "of
// the data sheet".
#pragma once

#include <cstdint>
#include <string>

#include "base/aligned.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace packmule::calibration {

struct AttentionShape {
  quant::Type k_type = quant::Type::kF16;
  quant::Type v_type = quant::Type::kF16;
  int64_t head_dim = 256;
  int64_t group = 8;  // query heads of a KV head
};

class Measure {
 public:
  /// Takes 192 MiB for as long as it lives. A measurement takes about `seconds`, and a little more to warm
  /// up. Kernels and pool must outlive it; nobody else may use the pool meanwhile.
  [[nodiscard]] static Result<Measure> create(const kernels::Kernels& kernels, ThreadPool& pool,
                                              double seconds = 0.2);

  /// Bytes a second of weights in this format, as decoding reads them: one token, matrices of 512 x 2,048.
  /// `in_strips`: repacked; the format must have strips (kernels.h).
  [[nodiscard]] double decode_bytes_s(const quant::Format& format, bool in_strips) const;
  /// Multiplications and additions, counted as one, a second in prompts: 40 tokens, the same matrices.
  [[nodiscard]] double multiply_adds_s(const quant::Format& format, bool in_strips) const;
  /// Bytes a second of K and V rows that attention reads for one token in a long context.
  [[nodiscard]] double attention_bytes_s(const AttentionShape& shape) const;

 private:
  Measure(const kernels::Kernels& kernels, ThreadPool& pool, double seconds, AlignedBuffer memory)
      : kernels_(&kernels), pool_(&pool), seconds_(seconds), memory_(std::move(memory)) {}

  /// Matrices a second.
  [[nodiscard]] double matrices_s(const quant::Format& format, bool in_strips, int64_t n_tokens) const;
  /// Calls pass() until the time is up; -> the median of calls a second.
  template <class Pass>
  [[nodiscard]] double passes_s(Pass&& pass) const;

  const kernels::Kernels* kernels_;
  ThreadPool* pool_;
  double seconds_;
  AlignedBuffer memory_;
};

}  // namespace packmule::calibration
