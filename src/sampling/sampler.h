// Choosing the next token from logits.
//
// Order of the chain, as llama-server's users know it: logit bias -> penalties -> top-k -> top-p -> min-p ->
// temperature -> draw. Temperature <= 0 is greedy: the largest logit after bias and penalties, the lowest id
// on a tie. Same parameters, same seed, same logits: same tokens, on every machine: random numbers and the
// exponential are our own, sums run in a fixed order.
//
// A logit that is NaN counts as -inf, one that is +inf as the largest float. If all tokens that may be drawn
// have -inf, the one with the lowest id is taken.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sampling/constraint.h"
#include "sampling/random_bits.h"

namespace packmule::sampling {

inline constexpr size_t kSortedCandidates = 256;
inline constexpr uint32_t kRandomSeed = 0xffffffffu;  // as llama.cpp's -s -1

struct Params {
  float temperature = 0.8f;
  int32_t top_k = 40;              // <= 0: off
  float top_p = 0.95f;             // >= 1: off
  float min_p = 0.05f;             // <= 0: off
  int32_t repeat_last_n = 64;      // window of the penalties; 0: off, -1: the whole context
  float repeat_penalty = 1.0f;     // 1: off; divides positive logits, multiplies negative ones
  float presence_penalty = 0.0f;   // subtracted once from tokens in the window
  float frequency_penalty = 0.0f;  // subtracted once per occurrence
  uint32_t seed = kRandomSeed;
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, added to its logit (-inf: never)
};

/// Values recommended for the model by its name in the file ("Qwen3-Next-80B-A3B-Thinking" ...): Instruct and
/// Coder 0.7 / 20 / 0.8 / 0.0, Thinking 0.6 / 20 / 0.95 / 0.0 (temperature / top-k / top-p / min-p).
[[nodiscard]] Params defaults_for_model(std::string_view model_name);

/// One line that names the parameter that is out of range, or success.
[[nodiscard]] Status validate(const Params& params, int64_t n_vocab);

struct Candidate {
  int32_t id;
  float logit;        // after bias and penalties, before temperature
  float probability;  // of being drawn
};

/// The state of one generation: parameters, random numbers, and the tokens seen so far.
class Sampler {
 public:
  /// `never` lists token ids that must not be drawn (padding).
  Sampler(Params params, int64_t n_vocab, std::vector<int32_t> never);

  /// Tells the sampler a token of the sequence, of the prompt or drawn (counts for the penalties only).
  void accept(int32_t token);
  /// Draws the next token among those of the mask; `logits` has n_vocab entries and is not changed. Does not
  /// accept it, and does not allocate. -1 if no id is left: all are on the never list or not in the mask.
  [[nodiscard]] int32_t sample(std::span<const float> logits, TokenMask allowed = {});
  /// The candidates the last draw chose from, most probable first (after the whole chain). When top-k and
  /// top-p are off they may be the whole vocabulary: then only the first kSortedCandidates, and those up to
  /// the drawn one, are sure to be in order.
  [[nodiscard]] std::span<const Candidate> candidates() const { return candidates_; }
  [[nodiscard]] uint32_t seed() const { return seed_; }  // the one in use, also when it was random

 private:
  void apply_bias_and_penalties(std::span<const float> logits);
  void forbid(TokenMask allowed, float value);
  int32_t choose_greedy(TokenMask allowed);
  void keep_top_k(size_t k);
  void keep_all();
  void sort_first(size_t n);
  double weigh(double temperature);
  void keep_top_p(double total);
  void keep_min_p();
  int32_t draw(double total);

  Params params_;
  uint32_t seed_ = 0;
  RandomBits random_;
  std::vector<int32_t> never_;
  std::vector<int32_t> window_;  // the last repeat_last_n tokens, a ring; unused when the window is unlimited
  size_t window_next_ = 0;
  std::vector<int32_t> counts_;  // [n_vocab] occurrences in the window
  std::vector<float> work_;      // [n_vocab] logits after bias and penalties
  std::vector<Candidate> candidates_;
  size_t n_sorted_ = 0;  // leading candidates that are in their final order
};

}  // namespace packmule::sampling
