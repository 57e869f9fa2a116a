#include "engine/delivery.h"

#include <utility>

namespace packmule::engine {

template <class Change>
void Delivery::change(Change&& change) {
  {
    const std::lock_guard lock(mutex_);
    change();
  }
  changed_.notify_one();
}

void Delivery::prompt_progress(int64_t done, const Statistics& so_far) {
  change([&] {
    statistics_ = so_far;
    waiting_.push_back({.prompt_done = done, .so_far = so_far});
  });
}

void Delivery::piece(std::string text, int32_t token, std::vector<TokenLogprob> logprobs,
                     const Statistics& so_far) {
  change([&] {
    statistics_ = so_far;
    waiting_.push_back(
        {.text = std::move(text), .token = token, .logprobs = std::move(logprobs), .so_far = so_far});
  });
}

void Delivery::finish(FinishReason reason, std::string stop_string, const Statistics& statistics) {
  change([&] {
    statistics_ = statistics;
    end_ = End{reason, std::move(stop_string)};
  });
}

void Delivery::fail(Error error) {
  change([&] { end_ = tl::unexpected(std::move(error)); });
}

Result<Outcome> Delivery::run(const Callbacks& callbacks, const std::stop_token& stop, Outcome outcome) {
  std::vector<Event> events;
  outcome.reason = FinishReason::kCancelled;
  while (true) {
    std::optional<Result<End>> end;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, stop, [this] { return !waiting_.empty() || end_.has_value(); });
      events.clear();
      events.swap(waiting_);
      outcome.statistics = statistics_;
      end = end_;
    }
    for (const Event& event : events) {
      if (stop.stop_requested()) break;
      if (event.prompt_done >= 0) {
        if (callbacks.on_prompt) callbacks.on_prompt(event.prompt_done, event.so_far);
        continue;
      }
      outcome.text += event.text;
      if (event.token >= 0) outcome.tokens.push_back(event.token);
      if (callbacks.on_piece) callbacks.on_piece({event.text, event.token, event.logprobs, event.so_far});
    }
    if (stop.stop_requested()) {
      outcome.statistics.generated_tokens = static_cast<int64_t>(outcome.tokens.size());
      return outcome;
    }
    if (!end) continue;
    if (!*end) return tl::unexpected(std::move(*end).error());
    outcome.reason = (*end)->reason;
    outcome.stop_string = std::move((*end)->stop_string);
    return outcome;
  }
}

}  // namespace packmule::engine
