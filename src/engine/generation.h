// One request on its way from prompt to answer: everything about it but the model and its caches.
//
// The scheduler reads tokens() into a sequence, hands over the logits behind the last one, and so on until
// the generation has ended. Used by one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/delivery.h"
#include "engine/engine.h"
#include "engine/stop_matcher.h"
#include "sampling/sampler.h"
#include "text/tokenizer.h"

namespace packmule::engine {

/// What generations need to know of the model.
struct Vocabulary {
  const text::Tokenizer* tokenizer = nullptr;
  int64_t n_vocab = 0;
  std::vector<int32_t> padding;  // ids that are never drawn
  std::vector<int32_t> ends;     // ids that end a turn
};

class Generation {
 public:
  using Clock = std::chrono::steady_clock;

  /// `context`: most tokens that prompt and answer may have in the cache together. The vocabulary must live
  /// longer. `now`: for tests.
  Generation(Request request, const Vocabulary& vocabulary, int64_t context, std::stop_token stop,
             std::function<Clock::time_point()> now = &Clock::now);

  /// Why it should end although it has more to say: it was cancelled, or its time is up.
  [[nodiscard]] std::optional<FinishReason> ended_from_outside() const;
  /// Stopped when there is such a reason.
  [[nodiscard]] std::stop_token stop_token() const { return halt_.get_token(); }
  [[nodiscard]] Delivery& delivery() { return delivery_; }
  [[nodiscard]] uint32_t seed() const { return sampler_.seed(); }
  [[nodiscard]] const Statistics& statistics() const { return statistics_; }
  [[nodiscard]] const std::vector<int64_t>& boundaries() const { return request_.boundaries; }

  /// The prompt and what was drawn. All of them must be in the sequence before the next draw.
  [[nodiscard]] std::span<const int32_t> tokens() const { return tokens_; }
  [[nodiscard]] int64_t n_prompt() const { return statistics_.prompt_tokens; }

  /// The scheduler has a place for it; again after it had to give it up.
  void begin(int64_t cached_tokens);
  void prompt_progress(int64_t done);
  /// The logits behind the last of tokens(): draws the next one and tells the caller. True when this was the
  /// end.
  [[nodiscard]] bool next(std::span<const float> logits);
  /// An end that comes from outside.
  void end(Result<FinishReason> how);
  /// Tells the caller of the end, so that it comes back from generate().
  void close();

 private:
  [[nodiscard]] std::optional<Result<FinishReason>> draw(std::span<const float> logits);
  /// The text that became certain by the token.
  [[nodiscard]] std::string write(int32_t token, std::span<const float> logits);

  Request request_;
  const Vocabulary& vocabulary_;
  int64_t context_;
  std::stop_token stop_;
  std::function<Clock::time_point()> now_;
  std::stop_source halt_;
  std::stop_callback<std::function<void()>> on_stop_, on_time_up_;
  std::vector<int32_t> tokens_;
  sampling::Sampler sampler_;
  std::unique_ptr<sampling::Constraint> constraint_;  // may be null
  text::Utf8Stream characters_;
  StopMatcher stops_;
  Statistics statistics_;
  std::optional<Clock::time_point> begun_, prompt_done_, first_token_;
  std::optional<Result<FinishReason>> end_;
  Delivery delivery_;
};

}  // namespace packmule::engine
