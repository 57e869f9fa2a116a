// The engine: a model with its tokenizer and caches, and generation on it.
//
// It never sees JSON or a socket. Requests of several callers are generated at the same time, and what one
// left behind is taken over by later ones that begin like it (cache/prefix_tree.h). None of that shows in the
// tokens: the same request with the same seed gets the same ones (but see Request::boundaries).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/options.h"
#include "engine/state.h"
#include "gguf/file.h"
#include "model/model.h"
#include "sampling/logprobs.h"
#include "sampling/sampler.h"
#include "text/tokenizer.h"

namespace packmule::engine {

using sampling::TokenLogprob;

struct Statistics {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;     // of those, not processed again
  int64_t generated_tokens = 0;  // the one that ends the turn is counted
  double prompt_ms = 0;
  double generate_ms = 0;
  [[nodiscard]] double prompt_per_second() const {
    return prompt_ms > 0 ? (prompt_tokens - cached_tokens) * 1e3 / prompt_ms : 0;
  }
  [[nodiscard]] double generate_per_second() const {
    return generate_ms > 0 ? generated_tokens * 1e3 / generate_ms : 0;
  }
};

/// One piece of a generation, handed to the caller as soon as it is certain. Every generated token but the
/// one that ends the turn gives one, in order.
struct Piece {
  std::string_view text;  // valid UTF-8, never half a character, never part of a stop string; may be "".
                          // Control tokens have no text
  int32_t token = -1;     // the token that completed it; -1 for the flush at the end
  /// Of this token, then of the likeliest in its place, by the model's own distribution, before bias,
  /// penalties and samplers (sampling/logprobs.h); empty unless asked for, and for the flush.
  std::span<const TokenLogprob> logprobs = {};
  Statistics so_far = {};
};

enum class FinishReason { kEndOfTurn, kStopString, kLength, kContextFull, kTimeLimit, kCancelled };

struct Request {
  std::vector<int32_t> prompt;
  sampling::Params sampling;
  int64_t max_tokens = -1;        // negative: until the end of the turn or the context
  std::vector<std::string> stop;  // texts that end the answer; not part of it. Valid UTF-8; "" is ignored
  bool ignore_eos = false;        // tokens that end the turn are never drawn
  int32_t n_logprobs = -1;        // log probabilities of each token and of so many likeliest; negative: none
  /// Its time is up when a stop is requested: it ends between two steps, or in the middle of one that is its
  /// prompt's alone, and its caller gets what is there, text that was held back for a stop string too. Who
  /// looks at the clock is the caller's business.
  std::stop_token time_up;
  /// llama-server's t_max_predict_ms: an answer that takes longer from its first token on ends behind the
  /// next piece with a line break in it. 0: no limit.
  std::chrono::milliseconds max_predict_time{0};
  sampling::ConstraintFactory constraint;  // the answer is held to it; where it may only end, it ends
  /// Positions in the prompt, ascending, at which later prompts are likely to part from it: ends of messages.
  /// There checkpoints are kept. Empty: behind each control token that ends a message. A prompt that goes on
  /// from such a place gets the bits it gets without; from the end of an answer, which was read token by
  /// token, logits differ by rounding.
  std::vector<int64_t> boundaries;
};

struct Outcome {
  std::string text;
  std::vector<int32_t> tokens;  // generated, end-of-turn token not included
  FinishReason reason = FinishReason::kEndOfTurn;
  std::string stop_string;  // the one that was met
  uint32_t seed = 0;        // in use
  Statistics statistics;
};

/// All are called on the thread that called generate(), in order; unset ones are skipped. One that takes long
/// keeps nobody else waiting: its own generation goes on too, and what it missed waits for it.
struct Callbacks {
  std::function<void(const Piece&)> on_piece;
  /// After each step in the prompt: how many of its tokens are done, cached ones included.
  std::function<void(int64_t done_tokens, const Statistics& so_far)> on_prompt;
};

class Engine {
 public:
  /// Opens the file, loads the model, allocates the caches. `on_load(fraction)` may be null; it is called
  /// after each of these steps, and weights are mapped, not read: the first tokens bring them into memory.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options,
                                              const std::function<void(double fraction)>& on_load = {});
  ~Engine();

  /// Runs a request to its end. Of the prompt only what no earlier one left a checkpoint for is processed. A
  /// prompt that leaves no room in the context is an error that says by how much. May be called by several
  /// threads: up to n_parallel requests run at the same time, the others wait in the order of their coming.
  /// When a stop is requested it returns at once, with what was called back; the work ends within a step.
  [[nodiscard]] Result<Outcome> generate(const Request& request, const Callbacks& callbacks,
                                         std::stop_token stop);

  // What a slot holds is the conversation that it handled last, or was given by restore_slot(): its tokens,
  // for which the prefix tree has checkpoints as long as there is room for them. It does not bind later
  // requests to the slot; whichever slot they get, they go on from what is there. All wait until the slot is
  // free, and may be called from any thread.

  struct SlotFile {
    int64_t n_tokens = 0;
    int64_t n_bytes = 0;  // of the file
  };
  /// Writes tokens, KV pages and up to eight checkpoints (cache/snapshot_file.h).
  [[nodiscard]] Result<SlotFile> save_slot(int slot, const std::string& path, std::stop_token stop);
  /// Puts what save_slot() wrote where requests find it. A file that does not fit the model is an error.
  [[nodiscard]] Result<SlotFile> restore_slot(int slot, const std::string& path, std::stop_token stop);
  /// Forgets it, in memory and on the disk, but for beginnings that other conversations share. How many
  /// tokens are kept no more.
  [[nodiscard]] Result<int64_t> erase_slot(int slot, std::stop_token stop);

  /// What is going on: cheap, from any thread, also while others generate.
  [[nodiscard]] State state() const;
  [[nodiscard]] const EngineOptions& options() const;  // with defaults filled in
  [[nodiscard]] const text::Tokenizer& tokenizer() const;
  [[nodiscard]] const model::Model& model() const;
  [[nodiscard]] model::Model& model();
  [[nodiscard]] const gguf::File& file() const;
  [[nodiscard]] std::string model_name() const;          // general.name, or the file's name
  [[nodiscard]] std::string_view chat_template() const;  // "" when the file has none
  [[nodiscard]] const sampling::Params& default_sampling()
      const;  // for this model, before flags and requests

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::engine
