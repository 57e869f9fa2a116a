#include "api/answer_job.h"

#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <optional>
#include <utility>

#include "api/json_text.h"
#include "api/limited_responder.h"

namespace packmule::api {
namespace {

using Clock = std::chrono::steady_clock;

ApiError cancelled() {
  return {.status = 503,
          .type = "unavailable_error",
          .message = "the request was cancelled",
          .code = "cancelled"};
}

Ended how_it_ended(engine::FinishReason reason, const AnswerReader& reader) {
  switch (reason) {
    case engine::FinishReason::kLength:
    case engine::FinishReason::kContextFull:
    case engine::FinishReason::kTimeLimit:
      return Ended::kLength;
    case engine::FinishReason::kStopString:
      if (reader.cut_in_call() || !reader.any_call()) return Ended::kStopString;
      break;
    case engine::FinishReason::kEndOfTurn:
    case engine::FinishReason::kCancelled:  // behind the one call that was wanted
      break;
  }
  return reader.any_call() ? Ended::kCalls : Ended::kByModel;
}

std::string_view name_of(Ended ended) {
  switch (ended) {
    case Ended::kByModel:
      return "end of turn";
    case Ended::kStopString:
      return "stop string";
    case Ended::kLength:
      return "length";
    case Ended::kCalls:
      return "tool calls";
  }
  return "";
}

/// What parts have in common with their neighbour before them is told once.
void append_part(std::vector<AnswerPart>& parts, AnswerPart part) {
  if (parts.empty() || part.kind == AnswerPart::Kind::kCall || parts.back().kind != part.kind) {
    parts.push_back(std::move(part));
    return;
  }
  parts.back().text += part.text;
  auto& tokens = parts.back().tokens;
  tokens.insert(tokens.end(), std::make_move_iterator(part.tokens.begin()),
                std::make_move_iterator(part.tokens.end()));
}

class Run {
 public:
  Run(const AnswerJob& job, Responder& responder, const JobContext& context)
      : job_(job), writer_(*job.writer), responder_(responder), context_(context) {}

  void run(const std::stop_token& server_stops) {
    const auto request_stop = [this] { cancel_.request_stop(); };
    const std::stop_callback on_server_stop(server_stops, request_stop);
    const std::stop_callback on_client_gone(responder_.stop_token(), request_stop);
    for (size_t choice = 0; choice < job_.generations.size(); ++choice) {
      if (cancel_.stop_requested()) return fail(cancelled());
      if (const auto error = answer(choice)) return fail(*error);
    }
    for (const std::string& warning : job_.warnings) warn(warning);
    finish();
  }

 private:
  std::optional<ApiError> answer(size_t choice) {
    choice_ = choice;
    log_prompt();
    AnswerReader reader(job_.form);
    std::stop_source stop;  // of this answer alone
    const auto request_stop = [&stop] { stop.request_stop(); };
    const std::stop_callback on_cancel(cancel_.get_token(), request_stop);
    bool thinking = job_.form.split_reasoning && job_.form.inside_reasoning;
    Ending ending;

    engine::Callbacks callbacks;
    callbacks.on_prompt = [&](int64_t done, const engine::Statistics& so_far) {
      start();
      write(writer_.reading(choice, done, so_far));
    };
    callbacks.on_piece = [&](const engine::Piece& piece) {
      start();
      note_first_token();
      so_far_ = piece.so_far;
      if (piece.token >= 0 && job_.form.with_tokens)
        tokens_.push_back({piece.token, {piece.logprobs.begin(), piece.logprobs.end()}});
      std::vector<AnswerPart> parts = reader.push(piece.text);
      if (!parts.empty()) thinking = parts.back().kind == AnswerPart::Kind::kReasoning;
      if (thinking && piece.token >= 0) ++ending.reasoning_tokens;
      take(std::move(parts));
      if (reader.enough()) stop.request_stop();
    };
    const auto outcome = context_.backend.generate(job_.generations[choice], callbacks, stop.get_token());
    if (!outcome) return from_error(outcome.error());
    if (context_.log_text) context_.log_text({.id = writer_.id(), .what = "answer", .text = outcome->text});
    if (outcome->reason == engine::FinishReason::kCancelled && !reader.enough()) return cancelled();
    n_generated_ += outcome->statistics.generated_tokens;
    if (job_.generations[choice].time_up.stop_requested() &&
        outcome->reason == engine::FinishReason::kTimeLimit) {
      note_time_up();
      // Nothing at all is an error; else what is there is an answer that was cut off.
      if (n_generated_ == 0) return too_late();
    }

    start();
    so_far_ = outcome->statistics;
    take(reader.finish());
    if (!tokens_.empty()) take_one({.kind = AnswerPart::Kind::kContent});
    ending.ended = how_it_ended(outcome->reason, reader);
    ending.stop_string = outcome->stop_string;
    ending.statistics = outcome->statistics;
    ending.seed = outcome->seed;
    log(ending, outcome->reason, reader);
    if (job_.stream) write(writer_.end(choice, ending));
    endings_.push_back(std::move(ending));
    if (!job_.stream) answers_.push_back({.parts = std::move(parts_), .ending = endings_.back()});
    parts_.clear();
    return std::nullopt;
  }

  void note_first_token() {
    if (any_token_ || context_.first_token == nullptr) return;
    any_token_ = true;
    context_.first_token->add(std::chrono::duration<double>(Clock::now() - job_.arrived).count());
  }

  void note_time_up() {
    if (!timed_out_ && context_.n_timed_out != nullptr) ++*context_.n_timed_out;
    timed_out_ = true;
  }

  void start() {
    if (started_ || !job_.stream) return;
    started_ = true;
    responder_.start({.status = 200,
                      .headers = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}},
                      .body = writer_.begin(job_.generations.front().prompt.size())});
  }

  void take(std::vector<AnswerPart> parts) {
    for (AnswerPart& part : parts) take_one(std::move(part));
  }

  void take_one(AnswerPart part) {
    part.tokens = std::exchange(tokens_, {});
    part.so_far = so_far_;
    if (job_.stream)
      write(writer_.part(choice_, part));
    else
      append_part(parts_, std::move(part));
  }

  void write(std::string_view bytes) {
    if (job_.stream && !bytes.empty() && !responder_.write(bytes)) cancel_.request_stop();
  }

  void finish() {
    if (!job_.stream) return responder_.send(json_response(writer_.whole(answers_)));
    write(writer_.finish(endings_));
    responder_.finish();
  }

  /// Behind a part of a streamed answer the only way to tell of an error is an event.
  void fail(const ApiError& error) {
    if (context_.log) context_.log(fmt::format("{}: {}", writer_.id(), error.message));
    if (!started_) return responder_.send(error.response(job_.error_form));
    write(writer_.failed(error));
    responder_.finish();
  }

  /// Once for all answers to it.
  void log_prompt() const {
    if (!context_.log_text) return;
    const std::vector<int32_t>& prompt = job_.generations[choice_].prompt;
    if (choice_ > 0 && job_.generations[choice_ - 1].prompt == prompt) return;
    std::string text;
    for (const int32_t token : prompt) text += context_.backend.token_bytes(token);
    context_.log_text({.id = writer_.id(), .what = "prompt", .text = std::move(text)});
  }

  void log(const Ending& ending, engine::FinishReason reason, const AnswerReader& reader) const {
    if (!context_.log) return;
    const engine::Statistics& s = ending.statistics;
    context_.log(fmt::format(
        "{}: prompt {} tokens ({} cached) at {:.1f} tokens/s, answer {} tokens at {:.1f} tokens/s, {}",
        writer_.id(), s.prompt_tokens, s.cached_tokens, s.prompt_per_second(), s.generated_tokens,
        s.generate_per_second(),
        reason == engine::FinishReason::kTimeLimit ? "time limit" : name_of(ending.ended)));
    for (const std::string& warning : reader.warnings()) warn(warning);
  }

  void warn(const std::string& warning) const {
    if (context_.log) context_.log(fmt::format("{}: warning: {}", writer_.id(), warning));
  }

  const AnswerJob& job_;
  AnswerWriter& writer_;
  Responder& responder_;
  const JobContext& context_;
  std::stop_source cancel_;  // of the whole job
  size_t choice_ = 0;
  std::vector<AnswerToken> tokens_;  // that no part has taken along yet
  engine::Statistics so_far_;        // of this answer
  std::vector<AnswerPart> parts_;    // of an answer that is sent whole
  std::vector<WholeAnswer> answers_;
  std::vector<Ending> endings_;
  bool started_ = false;
  bool any_token_ = false;
  bool timed_out_ = false;
  int64_t n_generated_ = 0;  // tokens of all answers
};

}  // namespace

void run_job(const AnswerJob& job, Responder& responder, const std::stop_token& stop,
             const JobContext& context) {
  Run(job, responder, context).run(stop);
}

}  // namespace packmule::api
