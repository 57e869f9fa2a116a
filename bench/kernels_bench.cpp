// Speed of the matmuls by format: GB/s of packed weights (what decoding is bound by) and GFLOP/s (what
// prefill is bound by), in the shapes of the 80B model's experts. Names:
// Matmul/FORMAT/ROWSxCOLS/rows|strips/tokens:N/threads:T.
//
//   kernels_bench --benchmark_filter='Q4_K/.*tokens:1/' --benchmark_repetitions=5
//
// The variant is the one the program would choose (PACKMULE_CPU forces another).
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <random>
#include <vector>

#include "base/aligned.h"
#include "kernels/kernels.h"

namespace packmule::kernels {
namespace {

/// Every thread walks through so many bytes of weights, more than the caches hold: as in decoding, each
/// weight is met once.
constexpr int64_t kWeightBytes = 96 << 20;
constexpr int64_t kMaxTokens = 512;

struct Shape {
  int64_t n_rows;
  int64_t n_cols;
};

/// Bytes that are ordinary numbers in every format: no denormals, no infinities.
AlignedBuffer make_weights() {
  AlignedBuffer buffer = AlignedBuffer::allocate(kWeightBytes, "benchmark weights").value();
  std::mt19937_64 random(3);
  for (uint64_t& word : buffer.as<uint64_t>()) word = (random() & 0x0f0f0f0f0f0f0f0fu) | 0x3030303030303030u;
  return buffer;
}

void run_matmul(benchmark::State& state, const quant::Format& format, Shape shape, int64_t n_tokens, Isa isa,
                bool in_strips) {
  static const AlignedBuffer weights = make_weights();
  const Matmul& matmul = kernels_for(isa).matmul[static_cast<size_t>(format.type)];
  const MatmulFn function = in_strips ? matmul.strips : matmul.rows;
  std::vector<float> activations(n_tokens * shape.n_cols), results(n_tokens * shape.n_rows);
  for (size_t i = 0; i < activations.size(); ++i) activations[i] = static_cast<float>(i % 17) - 8.5f;
  std::vector<float> scratch(matmul_scratch_floats(shape.n_cols));
  std::vector<const float*> x(n_tokens);
  std::vector<float*> y(n_tokens);
  AlignedBuffer rounded =
      AlignedBuffer::allocate(activations.size() / kQuantizedGroup * sizeof(QuantizedGroup), "activations")
          .value();
  std::vector<const QuantizedGroup*> quantized(n_tokens);
  for (int64_t t = 0; t < n_tokens; ++t) {
    QuantizedGroup* groups = rounded.as<QuantizedGroup>().data() + t * shape.n_cols / kQuantizedGroup;
    kernels_for(isa).quantize(activations.data() + t * shape.n_cols, shape.n_cols, groups);
    quantized[t] = groups;
    x[t] = activations.data() + t * shape.n_cols;
    y[t] = results.data() + t * shape.n_rows;
  }
  const int64_t row_bytes = quant::row_bytes(format, shape.n_cols);
  const int64_t matrix_bytes = row_bytes * shape.n_rows;
  const int64_t n_matrices = kWeightBytes / matrix_bytes;
  // Threads start in different places, so that none reads what another has just brought into a shared cache.
  int64_t matrix = n_matrices * state.thread_index() / state.threads();
  for (auto _ : state) {
    function({.weights = weights.data() + matrix * matrix_bytes,
              .row_bytes = row_bytes,
              .row_begin = 0,
              .row_end = shape.n_rows,
              .n_cols = shape.n_cols,
              .x = x.data(),
              .quantized = quantized.data(),
              .y = y.data(),
              .n_tokens = n_tokens,
              .scale = 1.0f,
              .scratch = scratch.data()});
    matrix = (matrix + 1) % n_matrices;
    benchmark::ClobberMemory();
  }
  const auto calls = static_cast<double>(state.iterations());
  const auto flop = static_cast<double>(2 * shape.n_rows * shape.n_cols * n_tokens);
  state.counters["GB/s"] =
      benchmark::Counter(calls * static_cast<double>(matrix_bytes) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] = benchmark::Counter(calls * flop * 1e-9, benchmark::Counter::kIsRate);
}

void register_all(Isa isa) {
  for (const quant::Format& format : quant::formats())
    for (const Shape shape : {Shape{512, 2048}, Shape{2048, 512}})
      for (const int64_t n_tokens :
           {int64_t{1}, int64_t{4}, int64_t{8}, int64_t{10}, int64_t{64}, kMaxTokens}) {
        for (const bool in_strips : {false, true}) {
          // Random blocks stand for rows and strips alike: speed does not depend on the codes.
          if (in_strips && kernels_for(isa).matmul[static_cast<size_t>(format.type)].strips == nullptr)
            continue;
          const std::string name = fmt::format("Matmul/{}/{}x{}/{}/tokens:{}", format.name, shape.n_rows,
                                               shape.n_cols, in_strips ? "strips" : "rows", n_tokens);
          benchmark::RegisterBenchmark(name.c_str(),
                                       [&format, shape, n_tokens, isa, in_strips](benchmark::State& state) {
                                         run_matmul(state, format, shape, n_tokens, isa, in_strips);
                                       })
              ->ThreadRange(1, 2)
              ->UseRealTime();
        }
      }
}

}  // namespace
}  // namespace packmule::kernels

int main(int argc, char** argv) {
  const auto isa = packmule::choose_isa();
  if (!isa) {
    fmt::print(stderr, "{}\n", isa.error().message);
    return 1;
  }
  benchmark::AddCustomContext("kernels", std::string(packmule::isa_name(*isa)));
  packmule::kernels::register_all(*isa);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
