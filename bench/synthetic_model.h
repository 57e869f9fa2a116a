// Qwen3-Next models with the true widths of the 80B one and random weights: for measuring speed, memory and
// placement, never quality. Names, shapes and metadata are those of a real file (shared/model/qwen3next.md
// lists them); the number of layers, experts and vocabulary entries is free.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "quant/format.h"

namespace packmule::bench {

struct SyntheticOptions {
  int64_t n_layers = 8;  // every 4th is attention; 48 is the full model
  int64_t n_experts = 512;
  int64_t n_vocab = 151936;
  std::string mix = "q4_k_xl";  // one of mix_names()
  float skew = 0;  // how unevenly experts are chosen: sigma of the log-normal gain of router rows
  uint64_t seed = 1;
  int n_threads = 1;  // does not change the file
  /// Type for the weight matrices whose name the regular expression finds; the last that fits counts. Norms,
  /// biases, convolutions and the router stay F32.
  std::vector<std::pair<std::string, quant::Type>> types;
};

inline constexpr int64_t kMinVocab = 961;  // the bytes, the merges and the special tokens

/// Which types the parts of the model have: "q4_k_xl", ...
[[nodiscard]] std::vector<std::string_view> mix_names();

/// Called now and then with the share of the data that is made.
using Progress = std::function<void(double share)>;

struct SyntheticSummary {
  size_t n_tensors = 0;
  uint64_t size_bytes = 0;  // of the data
};

[[nodiscard]] Result<SyntheticSummary> write_synthetic_model(const SyntheticOptions& options,
                                                             const std::string& path,
                                                             const Progress& progress);

}  // namespace packmule::bench
