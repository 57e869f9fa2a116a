// packmule bench: how fast a model reads a prompt and writes an answer on this machine.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "base/utf8.h"
#include "cache/sequence.h"
#include "cli/common_flags.h"
#include "cli/place_model.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "model/model.h"
#include "quant/format.h"

namespace packmule::cli {
namespace {

struct BenchOptions {
  engine::EngineOptions engine;
  PlacementFlags placement;
  std::vector<int64_t> prompt_sizes{512};
  std::vector<int64_t> generate_sizes{128};
  std::vector<int64_t> depths{0};
  int repetitions = 5;
  bool json = false;
};

/// One line of the table: the same work done several times.
struct Measurement {
  std::string name;  // "pp512": a prompt of 512 tokens in large batches; "tg32": 32 tokens one by one; "@
                     // d4096": after 4,096 others
  int64_t n_tokens = 0;
  int64_t depth = 0;
  bool one_by_one = false;
  std::vector<double> tokens_per_second;  // one a run, in order

  [[nodiscard]] double min() const {
    return *std::min_element(tokens_per_second.begin(), tokens_per_second.end());
  }
  [[nodiscard]] double max() const {
    return *std::max_element(tokens_per_second.begin(), tokens_per_second.end());
  }
  [[nodiscard]] double median() const {
    std::vector<double> sorted = tokens_per_second;
    std::sort(sorted.begin(), sorted.end());
    const size_t half = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }
};

/// What the figures were taken with.
struct Setup {
  std::string model;
  int64_t file_bytes = 0;
  int64_t n_params = 0;
  int64_t weight_bytes = 0;
  int64_t weight_bytes_per_token = 0;
  std::string machine;
  std::string_view isa;
  int n_threads = 0;
  int64_t n_tokens_at_once = 0;
  std::string_view k_type, v_type;

  /// Weights read per second at this speed; only one by one is every weight read once a token.
  [[nodiscard]] double gigabytes_per_second(const Measurement& measurement) const {
    return measurement.median() * static_cast<double>(weight_bytes_per_token) / 1e9;
  }
};

/// Token ids that differ and spread over the vocabulary, so that different experts are chosen; always the
/// same ones.
std::vector<int32_t> some_tokens(int64_t n, int64_t n_vocab) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  uint64_t state = 1;
  for (int32_t& token : tokens) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(n_vocab));
  }
  return tokens;
}

/// Fills the cache for n tokens with random keys and values of an ordinary size, in no time compared with
/// computing them: what they say changes nothing of the work that later tokens are.
Status fill_cache(const model::Model& model, cache::Sequence& sequence, int64_t n) {
  PACKMULE_TRY_STATUS(sequence.reserve(n));
  const model::Hparams& h = model.hparams();
  const cache::Layout& layout = sequence.layout();
  std::vector<float> row(static_cast<size_t>(h.n_kv_heads * h.head_dim));
  std::minstd_rand random(1);
  for (int64_t token = 0; token < n; ++token) {
    for (float& value : row) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    for (int layer = 0; layer < h.n_layers; ++layer) {
      // Pages of a device hold zeros at first, which is the same work.
      if (h.recurrent[static_cast<size_t>(layer)] || layout.is_on_device(static_cast<size_t>(layer)))
        continue;
      for (int64_t head = 0; head < h.n_kv_heads; ++head) {
        const float* x = row.data() + head * h.head_dim;
        quant::format_of(layout.k_type).encode(x, nullptr, sequence.k_row(layer, head, token), h.head_dim);
        quant::format_of(layout.v_type).encode(x, nullptr, sequence.v_row(layer, head, token), h.head_dim);
      }
    }
  }
  sequence.advance(n);
  return {};
}

/// Runs the tokens through a sequence that holds `depth` others; returns seconds.
Result<double> time_run(model::Model& model, cache::Sequence& sequence, std::span<const int32_t> tokens,
                        int64_t n_at_once, int64_t depth) {
  sequence.reset();
  if (depth > 0) PACKMULE_TRY_STATUS(fill_cache(model, sequence, depth));
  const auto begin = std::chrono::steady_clock::now();
  while (!tokens.empty()) {
    const auto n = std::min(tokens.size(), static_cast<size_t>(n_at_once));
    // Logits once per prompt, but for every token that is written: as in real use.
    const bool wanted = n == tokens.size() || n_at_once == 1;
    const model::Slice slice{&sequence, tokens.first(n),
                             wanted ? model::WantLogits::kLast : model::WantLogits::kNone};
    PACKMULE_TRY([[maybe_unused]] const auto logits, model.forward({&slice, 1}));
    tokens = tokens.subspan(n);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Status measure(model::Model& model, cache::Sequence& sequence, const BenchOptions& options, int64_t n_at_once,
               Measurement& measurement) {
  const bool show_progress = isatty(STDERR_FILENO) == 1;
  const std::vector<int32_t> tokens = some_tokens(measurement.n_tokens, model.hparams().n_vocab);
  // The first run warms up: it maps the file's pages and wakes the processor; it does not count.
  for (int run = 0; run <= options.repetitions; ++run) {
    if (show_progress)
      fmt::print(stderr, "\r{}: {} ", measurement.name,
                 run == 0 ? "warming up" : fmt::format("run {} of {}", run, options.repetitions));
    PACKMULE_TRY(const double seconds, time_run(model, sequence, tokens,
                                                measurement.one_by_one ? 1 : n_at_once, measurement.depth));
    if (run > 0) measurement.tokens_per_second.push_back(static_cast<double>(measurement.n_tokens) / seconds);
  }
  if (show_progress) fmt::print(stderr, "\r\x1b[K");
  return {};
}

std::string size_text(int64_t bytes) {
  return bytes < 1'000'000'000 ? fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6)
                               : fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

void print_head(const Setup& setup) {
  fmt::print("{}, {}, {:.1f} M weights, {} of them read for a token\n", setup.model,
             size_text(setup.file_bytes), static_cast<double>(setup.n_params) / 1e6,
             size_text(setup.weight_bytes_per_token));
  fmt::print("{}, {}, {} thread{}, {} tokens at once, cache {}/{}\n\n", setup.machine, setup.isa,
             setup.n_threads, setup.n_threads == 1 ? "" : "s", setup.n_tokens_at_once, setup.k_type,
             setup.v_type);
  fmt::print("| {:>16} | {:>10} | {:>21} | {:>14} |\n", "test", "tokens/s", "min .. max", "weights GB/s");
  fmt::print("| {:->15}: | {:->9}: | {:->20}: | {:->13}: |\n", "", "", "", "");
}

void print_row(const Setup& setup, const Measurement& measurement) {
  fmt::print("| {:>8} | {:>10.2f} | {:>21} | {:>14} |\n", measurement.name, measurement.median(),
             fmt::format("{:.2f} .. {:.2f}", measurement.min(), measurement.max()),
             measurement.one_by_one ? fmt::format("{:.2f}", setup.gigabytes_per_second(measurement)) : "");
  std::fflush(stdout);
}

Json result_json(const Setup& setup, const Measurement& measurement) {
  Json json = {{"test", measurement.name},
               {"kind", measurement.one_by_one ? "decode" : "prefill"},
               {"tokens", measurement.n_tokens},
               {"depth", measurement.depth},
               {"median_tokens_per_second", measurement.median()},
               {"min_tokens_per_second", measurement.min()},
               {"max_tokens_per_second", measurement.max()},
               {"runs_tokens_per_second", measurement.tokens_per_second}};
  if (measurement.one_by_one) json["weights_gb_per_second"] = setup.gigabytes_per_second(measurement);
  return json;
}

Json setup_json(const Setup& setup) {
  return {{"model", setup.model},
          {"file_bytes", setup.file_bytes},
          {"weights", setup.n_params},
          {"weight_bytes", setup.weight_bytes},
          {"weight_bytes_per_token", setup.weight_bytes_per_token},
          {"machine", setup.machine},
          {"isa", setup.isa},
          {"threads", setup.n_threads},
          {"tokens_at_once", setup.n_tokens_at_once},
          {"cache_type_k", setup.k_type},
          {"cache_type_v", setup.v_type}};
}

Status bench(const BenchOptions& options) {
  std::vector<Measurement> measurements;
  for (const int64_t depth : options.depths) {
    const std::string after = depth == 0 ? "" : fmt::format(" @ d{}", depth);
    for (const int64_t n : options.prompt_sizes)
      if (n > 0)
        measurements.push_back({.name = fmt::format("pp{}{}", n, after), .n_tokens = n, .depth = depth});
    for (const int64_t n : options.generate_sizes)
      if (n > 0)
        measurements.push_back(
            {.name = fmt::format("tg{}{}", n, after), .n_tokens = n, .depth = depth, .one_by_one = true});
  }
  if (measurements.empty())
    return fail(ErrorKind::kInvalidArgument, "nothing to measure: -p and -n are both 0");

  PACKMULE_TRY_STATUS(apply_numa(options.engine.numa));
  int64_t capacity = 0;
  for (const Measurement& measurement : measurements)
    capacity = std::max(capacity, measurement.depth + measurement.n_tokens);
  engine::EngineOptions placed_options = options.engine;
  placed_options.ctx_size = capacity;
  PACKMULE_TRY(const std::string placed, place_model(options.placement, placed_options));
  if (!placed.empty()) fmt::print(stderr, "{}\n", placed);
  PACKMULE_TRY(const gguf::File file, gguf::File::open(options.engine.model_path));
  ThreadPool threads(options.engine.n_threads > 0 ? options.engine.n_threads : usable_cores());
  model::ModelOptions model_options;
  PACKMULE_TRY(model_options.isa, choose_isa());
  model_options.logit_rows = 1;
  model_options.k_type = options.engine.k_type;
  model_options.v_type = options.engine.v_type;
  model_options.load_mode = options.engine.load_mode;
  model_options.placement = placed_options.placement;
  PACKMULE_TRY(const int64_t n_at_once,
               engine::ubatch_for(placed_options, file, model_options, threads.n_threads()));
  model_options.ubatch_size = n_at_once;
  PACKMULE_TRY(const auto model, model::Model::load(file, model_options, threads));
  PACKMULE_TRY(const auto pages, model->new_pool(capacity));
  PACKMULE_TRY(const auto sequence, pages->new_sequence());

  const std::string& name = model->hparams().name;
  Setup setup{.model = name.empty() ? file.path() : printable(name, 80),
              .file_bytes = static_cast<int64_t>(file.size_bytes()),
              .weight_bytes = model->weight_bytes(),
              .weight_bytes_per_token = model->weight_bytes_per_token(),
              .machine = cpu_model_name(),
              .isa = isa_name(model_options.isa),
              .n_threads = threads.n_threads(),
              .n_tokens_at_once = n_at_once,
              .k_type = quant::format_of(options.engine.k_type).name,
              .v_type = quant::format_of(options.engine.v_type).name};
  for (const gguf::TensorInfo& tensor : file.tensors()) setup.n_params += tensor.n_elems();

  if (!options.json) print_head(setup);
  Json json = setup_json(setup);
  json["results"] = Json::array();
  for (Measurement& measurement : measurements) {
    PACKMULE_TRY_STATUS(measure(*model, *sequence, options, n_at_once, measurement));
    if (options.json)
      json["results"].push_back(result_json(setup, measurement));
    else
      print_row(setup, measurement);
  }
  if (options.json) fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* verb = app.add_subcommand("bench", "Measure how fast prompts are read and answers written");
  add_model_flags(*verb, options->engine, options->placement);
  verb->add_option("-p,--n-prompt", options->prompt_sizes, "Lengths of prompts in tokens, by commas; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  verb->add_option("-n,--n-gen", options->generate_sizes, "Numbers of tokens to write, by commas; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  verb->add_option("-d,--n-depth", options->depths, "Tokens that the cache already holds, by commas")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  verb->add_option("-r,--repetitions", options->repetitions, "Runs of each, after one to warm up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print JSON instead of a table");
  verb->callback([options, &chosen] { chosen = [options] { return bench(*options); }; });
}

}  // namespace packmule::cli
