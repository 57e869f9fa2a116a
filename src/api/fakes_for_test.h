// A model that says what the test wants, and a client that keeps what it is sent.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api/backend.h"
#include "api/http.h"
#include "api/timer.h"

namespace packmule::api {

/// Tokens are bytes. The template writes "role:content\n" for each message, shows tools and tool calls as
/// JSON, and ends with `opening`.
class FakeBackend : public Backend {
 public:
  std::vector<std::string> pieces = {"Hel", "lo", " world"};
  std::string opening = "assistant:";
  std::vector<size_t> typed_control;
  engine::FinishReason reason = engine::FinishReason::kEndOfTurn;
  std::optional<Error> template_error;
  std::optional<Error> generate_error;       // before the first piece
  std::optional<Error> generate_late_error;  // behind the last
  bool object_arguments = false;
  bool tool_calls = true;
  int32_t bos_token = -1;
  bool block_until_stop = false;  // after the pieces, as a long generation would
  ModelInfo model{.name = "fake",
                  .created = 1700000000,
                  .n_vocab = 300,
                  .n_ctx = 1000,
                  .n_ctx_train = 2000,
                  .n_embd = 8,
                  .n_params = 123,
                  .size_bytes = 456};
  sampling::Params defaults;
  engine::State engine_state{.slots = std::vector<engine::SlotState>(1)};

  // What was asked for.
  engine::Request last_request;
  Json last_kwargs, last_tools, last_messages;
  std::atomic<int> n_running = 0;
  std::atomic<int> most_running = 0;
  std::atomic<int> n_generated = 0;

  const ModelInfo& info() const override { return model; }
  const sampling::Params& default_sampling() const override { return defaults; }
  engine::State state() const override { return engine_state; }
  Result<chat::Rendered> apply_template(const Json& messages, const Json& tools,
                                        const Json& kwargs) override {
    if (template_error) return tl::unexpected(*template_error);
    last_messages = messages;
    last_tools = tools;
    last_kwargs = kwargs;
    std::string out;
    if (!tools.is_null()) out += "tools:" + tools.dump() + "\n";
    for (const Json& m : messages) {
      out += m["role"].get<std::string>() + ":" + m["content"].get<std::string>();
      if (m.contains("tool_calls"))
        for (const Json& call : m["tool_calls"]) out += call["function"]["arguments"].dump();
      out += "\n";
    }
    if (kwargs.value("add_generation_prompt", false)) out += opening;
    return chat::Rendered{.text = out, .typed_control = typed_control};
  }
  bool needs_object_arguments() const override { return object_arguments; }
  bool writes_tool_calls() const override { return tool_calls; }
  /// Of the bytes; 299 ends.
  OutputGrammars* output_grammars() override {
    if (!grammars_) {
      std::vector<std::string> tokens(300);
      for (size_t i = 0; i < 256; ++i) tokens[i] = std::string(1, static_cast<char>(i));
      grammars_ = std::make_unique<OutputGrammars>(
          std::make_shared<const grammar::Vocabulary>(std::move(tokens), std::vector<int32_t>{299}));
    }
    return grammars_.get();
  }
  /// Bytes where no control token may begin are told from others by 1000 more.
  Result<std::vector<int32_t>> tokenize(std::string_view text, text::ParseSpecial special,
                                        std::span<const size_t> never_control) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    for (const size_t at : never_control) ids[at] += 1000;
    if (special == text::ParseSpecial::kAll && text == "<eos>") return std::vector<int32_t>{299};
    return ids;
  }
  int32_t bos() const override { return bos_token; }
  std::string_view token_bytes(int32_t token) const override {
    static const std::vector<std::string> bytes = [] {
      std::vector<std::string> out;
      for (int i = 0; i < 256; ++i) out.emplace_back(1, static_cast<char>(i));
      return out;
    }();
    return token < 256 ? std::string_view(bytes[static_cast<size_t>(token)]) : token == 299 ? "<eos>" : "";
  }
  Result<engine::Outcome> generate(const engine::Request& request, const engine::Callbacks& callbacks,
                                   std::stop_token stop) override {
    most_running = std::max<int>(most_running, ++n_running);
    {
      const std::lock_guard lock(last_request_mutex_);
      last_request = request;
    }
    auto result = run(request, callbacks, std::move(stop));
    --n_running;
    ++n_generated;
    return result;
  }

 private:
  /// The drawn token 1 and tokens 1, 2, ... (-inf for the third).
  static std::vector<engine::TokenLogprob> logprobs_of(int32_t n_top) {
    std::vector<engine::TokenLogprob> out;
    if (n_top >= 0) out.push_back({1, -0.5f});
    for (int32_t i = 1; i <= n_top; ++i)
      out.push_back({i, i == 3 ? -std::numeric_limits<float>::infinity() : -0.5f * static_cast<float>(i)});
    return out;
  }
  static engine::Statistics prompt_statistics(const engine::Request& request) {
    return {
        .prompt_tokens = static_cast<int64_t>(request.prompt.size()), .cached_tokens = 2, .prompt_ms = 100};
  }
  std::mutex last_request_mutex_;
  std::unique_ptr<OutputGrammars> grammars_;
  Result<engine::Outcome> run(const engine::Request& request, const engine::Callbacks& callbacks,
                              std::stop_token stop) {
    if (generate_error) return tl::unexpected(*generate_error);
    engine::Outcome outcome{.reason = reason};
    if (callbacks.on_prompt) callbacks.on_prompt(3, prompt_statistics(request));
    for (const std::string& piece : pieces) {
      outcome.text += piece;
      outcome.tokens.push_back(1);
      const std::vector<engine::TokenLogprob> logprobs = logprobs_of(request.n_logprobs);
      engine::Statistics so_far = prompt_statistics(request);
      so_far.generated_tokens = static_cast<int64_t>(outcome.tokens.size());
      if (callbacks.on_piece)
        callbacks.on_piece({.text = piece, .token = 1, .logprobs = logprobs, .so_far = so_far});
    }
    if (generate_late_error) return tl::unexpected(*generate_late_error);
    if (block_until_stop) {
      std::mutex mutex;
      std::condition_variable_any never;
      const std::stop_callback wake(request.time_up, [&] {
        const std::lock_guard lock(mutex);
        never.notify_all();
      });
      std::unique_lock lock(mutex);
      never.wait(lock, stop, [&] { return request.time_up.stop_requested(); });
    }
    if (request.time_up.stop_requested()) outcome.reason = engine::FinishReason::kTimeLimit;
    if (stop.stop_requested()) outcome.reason = engine::FinishReason::kCancelled;
    if (reason == engine::FinishReason::kStopString && !request.stop.empty())
      outcome.stop_string = request.stop.front();
    outcome.statistics = {.prompt_tokens = static_cast<int64_t>(request.prompt.size()),
                          .cached_tokens = 2,
                          .generated_tokens = static_cast<int64_t>(pieces.size()),
                          .prompt_ms = 100,
                          .generate_ms = 50};
    return outcome;
  }
};

/// Rings when the test wants it.
class FakeTimer : public Timer {
 public:
  [[nodiscard]] Alarm after(std::chrono::milliseconds time, std::function<void()> call) override {
    const std::lock_guard lock(mutex_);
    last_time = time;
    calls_.push_back(std::move(call));
    return std::make_shared<int>();
  }
  /// The alarm of the request that came as number `i`, from 0.
  void ring(size_t i) {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      call = calls_.at(i);
    }
    call();
  }
  std::chrono::milliseconds last_time{0};

 private:
  std::mutex mutex_;
  std::vector<std::function<void()>> calls_;
};

/// Keeps an answer and lets the test wait for it.
class FakeResponder : public Responder {
 public:
  void send(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    head_ = std::move(response);
    body_ = head_->body;
    done_ = true;
    changed_.notify_all();
  }
  void start(HttpResponse head) override {
    const std::lock_guard lock(mutex_);
    body_ = head.body;
    head_ = std::move(head);
    streamed_ = true;
    changed_.notify_all();
  }
  bool write(std::string_view bytes) override {
    const std::lock_guard lock(mutex_);
    if (refuse_writes) return false;
    body_ += bytes;
    changed_.notify_all();
    return true;
  }
  void finish() override {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }
  std::stop_token stop_token() const override { return stop.get_token(); }

  /// False when the answer is not complete after ten seconds.
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [this] { return done_; });
  }
  bool wait_for_start() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [this] { return head_.has_value(); });
  }
  bool done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }
  /// After wait().
  int status() const { return head_->status; }
  const std::string& body() const { return body_; }
  Json json() const { return Json::parse(body_); }
  bool streamed() const { return streamed_; }
  std::string header(std::string_view name) const {
    for (const auto& [key, value] : head_->headers)
      if (key == name) return value;
    return {};
  }

  std::atomic<bool> refuse_writes = false;
  std::stop_source stop;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<HttpResponse> head_;
  std::string body_;
  bool streamed_ = false;
  bool done_ = false;
};

/// The JSON of the events of a stream, without the closing [DONE]; nullopt when the form is not that of a
/// stream. An event with a name must have it as its type, too.
inline std::optional<std::vector<Json>> parse_sse(std::string_view body, bool expect_done = true) {
  constexpr std::string_view kEvent = "event: ", kData = "data: ";
  std::vector<Json> events;
  bool done = false;
  while (!body.empty()) {
    const size_t end = body.find("\n\n");
    if (end == std::string_view::npos || done) return std::nullopt;
    std::string_view data = body.substr(0, end);
    std::string_view name;
    if (data.starts_with(kEvent)) {
      const size_t line = std::min(data.find('\n'), data.size() - 1);
      name = data.substr(kEvent.size(), line - kEvent.size());
      data.remove_prefix(line + 1);
    }
    if (!data.starts_with(kData) || data.find('\n') != std::string_view::npos) return std::nullopt;
    data.remove_prefix(kData.size());
    if (data == "[DONE]")
      done = true;
    else
      events.push_back(Json::parse(data));
    if (!name.empty() && events.back().at("type") != name) return std::nullopt;
    body.remove_prefix(end + 2);
  }
  if (done != expect_done) return std::nullopt;
  return events;
}

}  // namespace packmule::api
