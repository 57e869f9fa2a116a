// An engine on the small model, and requests to it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "engine/engine.h"
#include "tests/support/test_data.h"

namespace packmule::engine {

using Ids = std::vector<int32_t>;

inline std::string small_model() {
  const auto path = testing_support::find_data("golden/tinyC-Q4_K_M.gguf");
  EXPECT_TRUE(path.has_value()) << "golden/tinyC-Q4_K_M.gguf is missing";
  return path.value_or("").string();
}

inline std::unique_ptr<Engine> open(const std::function<void(EngineOptions&)>& change = {}) {
  EngineOptions options;
  options.model_path = small_model();
  options.n_threads = 1;
  options.ctx_size = 256;
  options.ubatch_size = 16;
  if (change) change(options);
  auto engine = Engine::open(options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

inline Ids prompt(const Engine& engine, std::string_view text) {
  return engine.tokenizer().encode(text, text::ParseSpecial::kAll).value();
}

/// Greedy, without an end, so that a length can be asked for.
inline Request request(Ids ids, int64_t max_tokens) {
  Request result;
  result.prompt = std::move(ids);
  result.sampling.temperature = 0;
  result.max_tokens = max_tokens;
  result.ignore_eos = true;
  return result;
}

struct Reply {
  Outcome outcome;
  std::vector<std::string> pieces;
  Ids piece_tokens;
  std::vector<int64_t> prompt_steps;
};

inline Reply run(Engine& engine, const Request& what) {
  Reply result;
  Callbacks callbacks;
  callbacks.on_piece = [&](const Piece& piece) {
    EXPECT_EQ(find_invalid_utf8(piece.text), piece.text.size());
    result.pieces.emplace_back(piece.text);
    result.piece_tokens.push_back(piece.token);
  };
  callbacks.on_prompt = [&](int64_t done, const Statistics&) { result.prompt_steps.push_back(done); };
  auto outcome = engine.generate(what, callbacks, {});
  EXPECT_TRUE(outcome.has_value()) << outcome.error().message;
  if (outcome) result.outcome = std::move(*outcome);
  std::string joined;
  for (const std::string& piece : result.pieces) joined += piece;
  EXPECT_EQ(joined, result.outcome.text);
  if (!result.piece_tokens.empty() && result.piece_tokens.back() == -1) result.piece_tokens.pop_back();
  EXPECT_EQ(result.piece_tokens, result.outcome.tokens);
  return result;
}

constexpr std::string_view kText = "def main(argc):\n  return the right string for every error";

}  // namespace packmule::engine
