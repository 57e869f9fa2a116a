#include "api/chat_completions.h"

#include <fmt/format.h>

#include "api/chat_answer.h"
#include "api/fields.h"
#include "api/json_text.h"
#include "api/messages.h"
#include "chat/reasoning.h"

namespace packmule::api {
namespace {

ApiError cancelled() {
  return {.status = 503,
          .type = "unavailable_error",
          .message = "the request was cancelled",
          .code = "cancelled"};
}

/// An answer on its way to the client, in one piece or as chunks. Of a stream nothing is sent before the
/// first sign of life of the generation, so that a request which fails at once still gets a proper status.
class Delivery {
 public:
  Delivery(const ChatJob& job, const ChatAnswer& answer, Responder& responder, std::stop_source& stop)
      : job_(job), answer_(answer), responder_(responder), stop_(stop), reader_(job.form) {}

  [[nodiscard]] const AnswerReader& reader() const { return reader_; }

  void start() {
    if (started_ || !job_.stream) return;
    started_ = true;
    responder_.start({.status = 200,
                      .headers = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}},
                      .body = sse_event(answer_.first_chunk())});
  }

  void piece(std::string_view text) {
    start();
    if (!text.empty()) take(reader_.push(text));
    if (reader_.enough()) stop_.request_stop();
  }

  /// The model writes nothing more.
  void end_of_text() {
    start();
    take(reader_.finish());
  }

  void finish(const engine::Outcome& outcome) {
    if (!job_.stream) return responder_.send(json_response(answer_.whole(outcome, reader_, parts_)));
    write(sse_event(answer_.finish_chunk(outcome, reader_)));
    if (job_.include_usage) write(sse_event(answer_.usage_chunk(outcome)));
    write(kSseDone);
    responder_.finish();
  }

  /// Behind a part of a streamed answer the only way to tell of an error is an event.
  void fail(const ApiError& error) {
    if (!started_) return responder_.send(error.response());
    write(sse_event(error.json()));
    responder_.finish();
  }

 private:
  void take(std::vector<AnswerPart> parts) {
    for (AnswerPart& part : parts) {
      if (job_.stream)
        write(sse_event(answer_.part_chunk(part)));
      else
        parts_.push_back(std::move(part));
    }
  }

  void write(std::string_view bytes) {
    if (!responder_.write(bytes)) stop_.request_stop();
  }

  const ChatJob& job_;
  const ChatAnswer& answer_;
  Responder& responder_;
  std::stop_source& stop_;
  AnswerReader reader_;
  std::vector<AnswerPart> parts_;  // of an answer that is sent whole
  bool started_ = false;
};

ApiError too_long(int64_t n_prompt, int64_t n_ctx) {
  return {.status = 400,
          .type = "exceed_context_size_error",
          .message = fmt::format(
              "the prompt has {} tokens, the context holds {} and needs room for an answer: shorten "
              "the conversation or start the server with a larger --ctx-size",
              n_prompt, n_ctx),
          .param = "messages",
          .code = "context_length_exceeded",
          .details = {{"n_prompt_tokens", n_prompt}, {"n_ctx", n_ctx}}};
}

}  // namespace

ApiResult<chat::Rendered> render_prompt(Backend& backend, const ChatRequest& request) {
  Json messages = request.messages;
  if (backend.needs_object_arguments()) {
    API_TRY(messages, with_object_arguments(std::move(messages)));
  }
  auto prompt = backend.apply_template(messages, request.tools, request.kwargs);
  if (!prompt) return tl::unexpected(from_error(prompt.error()));
  return std::move(prompt).value();
}

ApiResult<ChatJob> prepare_chat(Backend& backend, const HttpRequest& http) {
  API_TRY(const Json body, parse_body(http));
  API_TRY(ChatRequest request, parse_chat_request(body, backend.default_sampling(), backend.info().n_vocab));
  API_TRY(const chat::Rendered prompt, render_prompt(backend, request));
  auto tokens = backend.tokenize(prompt.text, text::ParseSpecial::kAll, prompt.typed_control);
  if (!tokens) return tl::unexpected(from_error(tokens.error()));
  // Most templates leave the first token of a model that wants one to whoever tokenizes; some write it.
  if (const int32_t bos = backend.bos(); bos >= 0 && (tokens->empty() || tokens->front() != bos))
    tokens->insert(tokens->begin(), bos);
  for (const auto& [text, bias] : request.text_bias) {
    const auto biased = backend.tokenize(text, text::ParseSpecial::kNone, {});
    if (!biased) return tl::unexpected(bad_field("logit_bias", biased.error().message));
    for (const int32_t token : *biased) request.generation.sampling.logit_bias.emplace_back(token, bias);
  }
  const auto n_prompt = static_cast<int64_t>(tokens->size());
  if (n_prompt >= backend.info().n_ctx) return tl::unexpected(too_long(n_prompt, backend.info().n_ctx));
  request.generation.prompt = std::move(tokens).value();
  return ChatJob{.generation = std::move(request.generation),
                 .stream = request.stream,
                 .include_usage = request.include_usage,
                 .form = {.split_reasoning = request.split_reasoning,
                          .inside_reasoning = chat::opens_reasoning(prompt.text),
                          .tools = backend.writes_tool_calls() ? std::move(request.tools) : Json(nullptr),
                          .one_call = !request.parallel_tool_calls}};
}

void run_chat(Backend& backend, const ChatJob& job, Responder& responder, const std::stop_token& stop,
              const std::function<void(const std::string&)>& log) {
  std::stop_source cancel;
  const auto request_stop = [&cancel] { cancel.request_stop(); };
  const std::stop_callback on_server_stop(stop, request_stop);
  const std::stop_callback on_client_gone(responder.stop_token(), request_stop);
  if (cancel.stop_requested()) return responder.send(cancelled().response());

  const ChatAnswer answer(backend.info().name, job.include_usage);
  Delivery delivery(job, answer, responder, cancel);
  engine::Callbacks callbacks;
  callbacks.on_prompt = [&](int64_t, int64_t) { delivery.start(); };
  callbacks.on_piece = [&](const engine::Piece& piece) { delivery.piece(piece.text); };
  const auto outcome = backend.generate(job.generation, callbacks, cancel.get_token());

  const bool ended_by_us = delivery.reader().enough();
  if (!outcome || (outcome->reason == engine::FinishReason::kCancelled && !ended_by_us)) {
    const ApiError error = outcome ? cancelled() : from_error(outcome.error());
    log(fmt::format("{}: {}", answer.id(), error.message));
    return delivery.fail(error);
  }
  delivery.end_of_text();
  const engine::Statistics& s = outcome->statistics;
  log(fmt::format(
      "{}: prompt {} tokens ({} cached) at {:.1f} tokens/s, answer {} tokens at {:.1f} tokens/s, {}",
      answer.id(), s.prompt_tokens, s.cached_tokens, s.prompt_per_second(), s.generated_tokens,
      s.generate_per_second(), finish_reason(outcome->reason, delivery.reader())));
  for (const std::string& warning : delivery.reader().warnings())
    log(fmt::format("{}: warning: {}", answer.id(), warning));
  delivery.finish(*outcome);
}

}  // namespace packmule::api
