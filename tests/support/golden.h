// The reference models of tests/data/golden: what the folder holds, where the model file is (or how it is
// made), and the reference's answers. The folder's README describes every file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace packmule::testing_support {

struct GoldenCase {
  std::string name;
  Json about;  // NAME.json
  int64_t model_bytes = 0;
  std::vector<int32_t> tokens;  // prompt and greedy continuation
  int64_t n_prompt = 0;
  int64_t n_vocab = 0;
  int64_t n_layers = 0;
  int64_t n_used = 0;            // experts a token
  std::vector<float> logits;     // [tokens, n_vocab]
  std::vector<float> hidden;     // [n_layers + 1, hidden] of the last prompt token
  std::vector<int16_t> experts;  // [n_layers, tokens, n_used], highest weight first
  std::vector<float> margin;  // [n_layers, tokens]: router logit of the last chosen less the first not chosen

  /// Whether its weights are of block formats.
  [[nodiscard]] bool quantized() const;
};

/// Names of all models described in the folder, sorted.
std::vector<std::string> golden_names();
/// Bytes of the model file of a name, without reading the rest.
int64_t golden_model_bytes(const std::string& name);
GoldenCase read_golden(const std::string& name);

/// The model file: from the folder, or made by the folder's make_tiny.py into the build tree and checked
/// against the SHA-256 that the description names. An error says what is missing (Python with numpy).
Result<std::filesystem::path> golden_model(const GoldenCase& golden);
/// The same weights in another file layout ("--legacy", "--fuse-gate-up"). An error for a case that is not
/// made by make_tiny.py.
Result<std::filesystem::path> golden_variant(const GoldenCase& golden, const std::string& option);

/// Largest ||a - b|| / ||b|| over the rows of n_cols.
double max_relative_l2(const std::vector<float>& a, const std::vector<float>& b, int64_t n_cols);

}  // namespace packmule::testing_support
