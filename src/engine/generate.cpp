// From a request to its outcome.
#include <algorithm>
#include <chrono>

#include "base/utf8.h"
#include "engine/engine.h"
#include "engine/impl.h"
#include "engine/stop_matcher.h"

namespace packmule::engine {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// Turns generated tokens into pieces for the caller and into the text of the outcome.
class TextOut {
 public:
  TextOut(const text::Tokenizer& tokenizer, const Request& request, const Callbacks& callbacks,
          Outcome& outcome)
      : tokenizer_(tokenizer), callbacks_(callbacks), outcome_(outcome), stops_(request.stop) {}

  /// True when a stop string was met.
  [[nodiscard]] bool add(int32_t token, std::span<const TokenLogprob> logprobs) {
    const bool silent = tokenizer_.kind(token) == text::TokenKind::kControl;
    const std::string text =
        stops_.push(characters_.push(silent ? std::string_view() : tokenizer_.token_bytes(token)));
    emit({.text = text, .token = token, .logprobs = logprobs});
    return stopped();
  }
  /// What was held back. True when it completes a stop string.
  [[nodiscard]] bool finish() {
    if (stopped()) return true;
    std::string rest = stops_.push(characters_.finish());
    rest += stops_.finish();
    if (!rest.empty()) emit({.text = rest});
    return stopped();
  }

 private:
  [[nodiscard]] bool stopped() {
    outcome_.stop_string = stops_.met();
    return !stops_.met().empty();
  }
  void emit(const Piece& piece) {
    outcome_.text += piece.text;
    if (callbacks_.on_piece) callbacks_.on_piece(piece);
  }

  const text::Tokenizer& tokenizer_;
  const Callbacks& callbacks_;
  Outcome& outcome_;
  text::Utf8Stream characters_;
  StopMatcher stops_;
};

}  // namespace

Status Engine::Impl::check(const Request& request) const {
  const int64_t n_vocab = model->hparams().n_vocab;
  PACKMULE_TRY_STATUS(sampling::validate(request.sampling, n_vocab));
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt == 0)
    return fail(ErrorKind::kInvalidArgument, "the prompt is empty: expected at least one token");
  if (n_prompt >= options.ctx_size)
    return fail(
        ErrorKind::kInvalidArgument,
        "the prompt has {} tokens, the context of {} leaves room for {}: {} too many; shorten the prompt "
        "or raise --ctx-size (the model was trained for {})",
        n_prompt, options.ctx_size, options.ctx_size - 1, n_prompt - options.ctx_size + 1,
        model->hparams().context_length);
  for (size_t i = 0; i < request.prompt.size(); ++i)
    if (request.prompt[i] < 0 || request.prompt[i] >= n_vocab)
      return fail(ErrorKind::kInvalidArgument, "prompt token {} is {}, expected 0 to {}", i,
                  request.prompt[i], n_vocab - 1);
  for (const std::string& stop : request.stop)
    if (const size_t bad = find_invalid_utf8(stop); bad != stop.size())
      return fail(ErrorKind::kInvalidArgument, "a stop string is not valid UTF-8 at byte {} of {}", bad,
                  stop.size());
  return {};
}

int64_t Engine::Impl::keep_common_part(const std::vector<int32_t>& prompt) {
  // At least one token must be left to process: its logits are what the first draw needs.
  const bool goes_on = held.size() < prompt.size() && std::equal(held.begin(), held.end(), prompt.begin());
  if (!goes_on) {
    sequence->reset();
    held.clear();
  }
  return static_cast<int64_t>(held.size());
}

Result<std::span<const float>> Engine::Impl::forward(std::span<const int32_t> tokens, model::WantLogits want,
                                                     const std::stop_token& stop) {
  const model::Slice slice{sequence.get(), tokens, want};
  auto logits = model->forward({&slice, 1}, nullptr, stop);
  if (logits) {
    held.insert(held.end(), tokens.begin(), tokens.end());
  } else if (logits.error().kind == ErrorKind::kCancelled) {
    held.clear();
  }
  tell([&](State& s, SlotState& slot) {
    slot.held_tokens = static_cast<int64_t>(held.size());
    s.kv_pages_used = s.kv_pages - pages->free_tokens() / cache::kPageTokens;
    ++s.totals.steps;
  });
  return logits;
}

Result<Outcome> Engine::generate(const Request& request, const Callbacks& callbacks, std::stop_token stop) {
  Impl& engine = *impl_;
  PACKMULE_TRY_STATUS(engine.check(request));
  Outcome outcome;
  outcome.reason = FinishReason::kCancelled;
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  outcome.statistics.prompt_tokens = n_prompt;

  std::vector<int32_t> never = engine.padding;
  if (request.ignore_eos) never.insert(never.end(), engine.ends.begin(), engine.ends.end());
  sampling::Sampler sampler(request.sampling, engine.model->hparams().n_vocab, std::move(never));
  outcome.seed = sampler.seed();
  for (const int32_t token : request.prompt) sampler.accept(token);

  engine.tell([](State& s, SlotState&) { ++s.waiting; });
  const Turn::Guard turn = engine.turn.wait(stop);
  engine.tell([](State& s, SlotState&) { --s.waiting; });
  if (!turn) return outcome;

  // The prompt.
  const auto prompt_begin = Clock::now();
  int64_t done = engine.keep_common_part(request.prompt);
  outcome.statistics.cached_tokens = done;
  engine.tell([&](State& s, SlotState& slot) {
    slot = {.task = s.totals.requests,
            .busy = true,
            .prompt_tokens = n_prompt,
            .cached_tokens = done,
            .processed_tokens = done,
            .held_tokens = done};
    s.totals.cached_tokens += done;
  });
  struct Ended {
    Impl& engine;
    ~Ended() {
      engine.tell([](State& s, SlotState& slot) {
        slot.busy = slot.decoding = false;
        ++s.totals.requests;
      });
    }
  } const ended{engine};
  std::span<const float> logits;
  while (done < n_prompt && !stop.stop_requested()) {
    const int64_t n = std::min(engine.options.ubatch_size, n_prompt - done);
    const auto tokens = std::span(request.prompt).subspan(static_cast<size_t>(done), static_cast<size_t>(n));
    const bool last = done + n == n_prompt;
    const auto result =
        engine.forward(tokens, last ? model::WantLogits::kLast : model::WantLogits::kNone, stop);
    if (!result && result.error().kind == ErrorKind::kCancelled) break;
    PACKMULE_TRY(logits, result);
    done += n;
    engine.tell([&](State& s, SlotState& slot) {
      slot.processed_tokens = done;
      slot.decoding = last;
      s.totals.prompt_tokens += n;
    });
    if (callbacks.on_prompt) callbacks.on_prompt(done, n_prompt);
  }
  const auto prompt_end = Clock::now();
  outcome.statistics.prompt_ms = milliseconds(prompt_end - prompt_begin);
  engine.tell([&](State& s, SlotState&) { s.totals.prompt_seconds += outcome.statistics.prompt_ms / 1e3; });

  // Token by token.
  TextOut out(*engine.tokenizer, request, callbacks, outcome);
  std::vector<TokenLogprob> logprobs;  // of the last token drawn, if wanted
  while (done == n_prompt && !stop.stop_requested()) {
    if (request.max_tokens >= 0 && static_cast<int64_t>(outcome.tokens.size()) >= request.max_tokens) {
      outcome.reason = FinishReason::kLength;
      break;
    }
    if (!outcome.tokens.empty()) {
      if (static_cast<int64_t>(engine.held.size()) >= engine.options.ctx_size) {
        outcome.reason = FinishReason::kContextFull;
        break;
      }
      PACKMULE_TRY(logits, engine.forward({&outcome.tokens.back(), 1}, model::WantLogits::kLast));
    }
    const int32_t token = sampler.sample(logits);
    if (token < 0)
      return fail(ErrorKind::kInvalidArgument, "every token is forbidden: nothing can be generated");
    sampler.accept(token);
    ++outcome.statistics.generated_tokens;
    engine.tell([&](State& s, SlotState& slot) {
      ++slot.generated_tokens;
      ++s.totals.generated_tokens;
    });
    if (engine.tokenizer->is_end_of_generation(token)) {
      outcome.reason = FinishReason::kEndOfTurn;
      break;
    }
    outcome.tokens.push_back(token);
    if (request.n_logprobs >= 0)
      sampling::log_probabilities(logits, engine.padding, token, request.n_logprobs, logprobs);
    if (out.add(token, logprobs)) {
      outcome.reason = FinishReason::kStopString;
      break;
    }
  }
  if (out.finish()) outcome.reason = FinishReason::kStopString;
  outcome.statistics.generate_ms = milliseconds(Clock::now() - prompt_end);
  engine.tell(
      [&](State& s, SlotState&) { s.totals.generate_seconds += outcome.statistics.generate_ms / 1e3; });
  return outcome;
}

}  // namespace packmule::engine
