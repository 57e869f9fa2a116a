// What passes from the scheduler, which makes an answer, to the caller of generate(), who is told of it.
//
// The scheduler never waits for a caller: pieces wait here, at most those of one context, until the caller's
// thread has time for them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace packmule::engine {

class Delivery {
 public:
  // ---- for the scheduler ----
  void prompt_progress(int64_t done, const Statistics& so_far);
  void piece(std::string text, int32_t token, std::vector<TokenLogprob> logprobs, const Statistics& so_far);
  void finish(FinishReason reason, std::string stop_string, const Statistics& statistics);
  void fail(Error error);

  // ---- for the caller ----
  /// Calls back until the end, or until a stop is requested: then at once, and the outcome is what was called
  /// back so far. `outcome` has what is known before.
  [[nodiscard]] Result<Outcome> run(const Callbacks& callbacks, const std::stop_token& stop, Outcome outcome);

 private:
  struct Event {
    std::string text;
    int32_t token = -1;
    std::vector<TokenLogprob> logprobs;
    int64_t prompt_done = -1;  // not negative: progress of the prompt, no piece
    Statistics so_far;
  };
  struct End {
    FinishReason reason;
    std::string stop_string;
  };
  template <class Change>
  void change(Change&& change);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Event> waiting_;
  Statistics statistics_;
  std::optional<Result<End>> end_;
};

}  // namespace packmule::engine
