#include "calibration/measure.h"

#include <chrono>
#include <utility>
#include <vector>

#include "calibration/trial.h"

namespace packmule::calibration {
namespace {

constexpr int64_t kMemoryBytes = int64_t{192} << 20;
constexpr int64_t kRows = 512, kColumns = 2048;  // gate and up of an expert
/// Of a phase: about what one token's experts have.
constexpr int64_t kMatricesAtOnce = 16;
constexpr int64_t kBlockRows = 128;
/// That an expert of 512, of which 10 are used, gets of a ubatch of 2,048.
constexpr int64_t kPromptTokens = 40;
constexpr int64_t kPageTokens = 64;
constexpr int64_t kSpanTokens = 4096;

}  // namespace

Result<Measure> Measure::create(const kernels::Kernels& kernels, ThreadPool& pool, double seconds) {
  PACKMULE_TRY(AlignedBuffer memory, AlignedBuffer::allocate(kMemoryBytes, "measuring speed"));
  fill_with_numbers(memory.as<uint64_t>());
  return Measure(kernels, pool, seconds, std::move(memory));
}

template <class Pass>
double Measure::passes_s(Pass&& pass) const {
  using Clock = std::chrono::steady_clock;
  pass();
  std::vector<double> speeds;
  const auto begin = Clock::now();
  do {
    const auto before = Clock::now();
    pass();
    speeds.push_back(1 / std::chrono::duration<double>(Clock::now() - before).count());
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds_);
  return median(std::move(speeds));
}

double Measure::matrices_s(const quant::Format& format, bool in_strips, int64_t n_tokens) const {
  const kernels::Matmul& matmul = kernels_->matmul[static_cast<size_t>(format.type)];
  const kernels::MatmulFn function = in_strips ? matmul.strips : matmul.rows;
  std::vector<float> x(static_cast<size_t>(n_tokens * kColumns));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8.5f;
  std::vector<kernels::QuantizedGroup> rounded(x.size() / kernels::kQuantizedGroup);
  kernels_->quantize(x.data(), static_cast<int64_t>(x.size()), rounded.data());
  std::vector<const float*> inputs;
  std::vector<const kernels::QuantizedGroup*> groups;
  for (int64_t t = 0; t < n_tokens; ++t) {
    inputs.push_back(x.data() + t * kColumns);
    groups.push_back(rounded.data() + t * kColumns / kernels::kQuantizedGroup);
  }
  struct Worker {
    std::vector<float> scratch, results;
    std::vector<float*> y;
  };
  std::vector<Worker> workers(static_cast<size_t>(pool_->n_threads()));
  for (Worker& worker : workers) {
    worker.scratch.resize(static_cast<size_t>(kernels::matmul_scratch_floats(kColumns)));
    worker.results.resize(static_cast<size_t>(n_tokens * kRows));
    for (int64_t t = 0; t < n_tokens; ++t) worker.y.push_back(worker.results.data() + t * kRows);
  }

  const int64_t row_bytes = quant::row_bytes(format, kColumns);
  const int64_t n_matrices = kMemoryBytes / (row_bytes * kRows);
  int64_t first = 0;
  constexpr int64_t kBlocks = kRows / kBlockRows;
  const double phases = passes_s([&] {
    pool_->run(kMatricesAtOnce * kBlocks, [&](int64_t item, int w) {
      Worker& worker = workers[static_cast<size_t>(w)];
      const int64_t matrix = (first + item / kBlocks) % n_matrices;
      const int64_t begin = item % kBlocks * kBlockRows;
      function({.weights = memory_.data() + matrix * row_bytes * kRows,
                .row_bytes = row_bytes,
                .row_begin = begin,
                .row_end = begin + kBlockRows,
                .n_cols = kColumns,
                .x = inputs.data(),
                .quantized = groups.data(),
                .y = worker.y.data(),
                .n_tokens = n_tokens,
                .scale = 1.0f,
                .scratch = worker.scratch.data()});
    });
    first = (first + kMatricesAtOnce) % n_matrices;
  });
  return phases * kMatricesAtOnce;
}

double Measure::decode_bytes_s(const quant::Format& format, bool in_strips) const {
  return matrices_s(format, in_strips, 1) * static_cast<double>(quant::row_bytes(format, kColumns) * kRows);
}

double Measure::multiply_adds_s(const quant::Format& format, bool in_strips) const {
  return matrices_s(format, in_strips, kPromptTokens) * static_cast<double>(kRows * kColumns * kPromptTokens);
}

double Measure::attention_bytes_s(const AttentionShape& shape) const {
  const int64_t k_row = quant::row_bytes(quant::format_of(shape.k_type), shape.head_dim);
  const int64_t v_row = quant::row_bytes(quant::format_of(shape.v_type), shape.head_dim);
  const int64_t n_spans = kMemoryBytes / ((k_row + v_row) * kSpanTokens);
  constexpr int64_t kPages = kSpanTokens / kPageTokens;
  std::vector<const void*> k_pages, v_pages;
  for (int64_t page = 0; page < n_spans * kPages; ++page) {
    k_pages.push_back(memory_.data() + page * kPageTokens * (k_row + v_row));
    v_pages.push_back(memory_.data() + page * kPageTokens * (k_row + v_row) + kPageTokens * k_row);
  }
  struct Worker {
    std::vector<float> q, out, scratch, largest, total;
    std::vector<const float*> queries;
    std::vector<float*> outputs;
    std::vector<int32_t> n_visible;
  };
  std::vector<Worker> workers(static_cast<size_t>(pool_->n_threads()));
  for (Worker& worker : workers) {
    const auto n = static_cast<size_t>(shape.group), floats = n * static_cast<size_t>(shape.head_dim);
    worker.q.assign(floats, 0.01f);
    worker.out.resize(floats);
    worker.largest.resize(n);
    worker.total.resize(n);
    worker.n_visible.assign(n, kSpanTokens);
    worker.scratch.resize(
        static_cast<size_t>(kernels::attention_scratch_floats(shape.group, shape.head_dim, kPageTokens)));
    for (size_t i = 0; i < n; ++i) {
      worker.queries.push_back(worker.q.data() + i * static_cast<size_t>(shape.head_dim));
      worker.outputs.push_back(worker.out.data() + i * static_cast<size_t>(shape.head_dim));
    }
  }
  const double passes = passes_s([&] {
    pool_->run(n_spans, [&](int64_t span, int w) {
      Worker& worker = workers[static_cast<size_t>(w)];
      kernels_->attention({.q = worker.queries.data(),
                           .out = worker.outputs.data(),
                           .n_visible = worker.n_visible.data(),
                           .n_q = shape.group,
                           .head_dim = shape.head_dim,
                           .k_pages = k_pages.data() + span * kPages,
                           .v_pages = v_pages.data() + span * kPages,
                           .k_row_bytes = k_row,
                           .v_row_bytes = v_row,
                           .page_tokens = kPageTokens,
                           .k_type = shape.k_type,
                           .v_type = shape.v_type,
                           .scale = 1.0f,
                           .largest = worker.largest.data(),
                           .total = worker.total.data(),
                           .scratch = worker.scratch.data()});
    });
  });
  return passes * static_cast<double>(n_spans * kSpanTokens * (k_row + v_row));
}

}  // namespace packmule::calibration
