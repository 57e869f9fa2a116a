// packmule_make_synthetic: writes a model with the true widths and random weights.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/cpu.h"
#include "bench/synthetic_model.h"

namespace {

using namespace packmule;

/// "REGEX=TYPE", cut at the last '='.
std::pair<std::string, quant::Type> parse_type(const std::string& text) {
  const size_t equals = text.rfind('=');
  const quant::Format* format =
      equals == std::string::npos ? nullptr : quant::find_format(std::string_view(text).substr(equals + 1));
  if (format != nullptr) return {text.substr(0, equals), format->type};
  std::string names;
  for (const quant::Format& known : quant::formats()) names += fmt::format(" {}", known.name);
  throw CLI::ValidationError("--type",
                             fmt::format("expected REGEX=TYPE, found '{}'; types are{}", text, names));
}

}  // namespace

int main(int argc, char** argv) {
  bench::SyntheticOptions options;
  options.n_threads = usable_cores();
  std::string path;
  std::vector<std::string> types;
  CLI::App app(
      "Writes a GGUF file with the widths of Qwen3-Next-80B-A3B and random weights: for measuring speed and "
      "memory, never quality.",
      "packmule_make_synthetic");
  app.add_option("OUT", path, "File to write")->required();
  app.add_option("--layers", options.n_layers, "Layers; 48 is the full model")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--experts", options.n_experts, "Experts of a layer")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--vocab", options.n_vocab, "Vocabulary entries")
      ->check(CLI::Range(bench::kMinVocab, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--mix", options.mix, "Types of the tensors")
      ->check(CLI::IsMember([] {
        std::vector<std::string> names;
        for (const auto name : bench::mix_names()) names.emplace_back(name);
        return names;
      }()))
      ->capture_default_str();
  app.add_option("--skew", options.skew,
                 "How unevenly experts are chosen (sigma of the log of the router's gains)")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Other numbers, other weights")->capture_default_str();
  app.add_option(
         "--type", types,
         "REGEX=TYPE: the type of the weight matrices whose name the expression finds, e.g. "
         "'ffn_.*_exps=IQ4_XS'; may be given several times, the last that fits counts. Every format can be "
         "chosen: its scales are set so that the weights have the usual size. Norms, biases, convolutions "
         "and the router stay F32")
      ->take_all()
      ->expected(1);
  app.add_option("-t,--threads", options.n_threads, "Threads; the file is the same for any number")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    for (const std::string& type : types) options.types.push_back(parse_type(type));
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "packmule_make_synthetic: error: {}\n", error.what());
    return 2;
  }
  const bool terminal = isatty(STDERR_FILENO) != 0;
  int shown = -1;
  const auto summary = bench::write_synthetic_model(options, path, [&](double share) {
    const int percent = static_cast<int>(100 * share);
    if (!terminal || percent == shown) return;
    shown = percent;
    fmt::print(stderr, "\r{:3} %{}", percent, percent == 100 ? "\r     \r" : "");
  });
  if (!summary) {
    fmt::print(stderr, "packmule_make_synthetic: error: {}\n", summary.error().message);
    return 1;
  }
  fmt::print("{}: {:.2f} GB in {} tensors\n", path, static_cast<double>(summary->size_bytes) / 1e9,
             summary->n_tensors);
  return 0;
}
