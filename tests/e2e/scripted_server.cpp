// The real API and HTTP layers in front of a model that says what a script tells it to, so that clients meet
// tool calls, thoughts, errors and hanging answers when a test wants them to.
//
//   packmule_scripted_server SCRIPT.json [RECORD.jsonl]
//
// Prints "listening on http://127.0.0.1:PORT" and serves until SIGTERM. The script is an array of rules
//   {"when": "...", "text": "...", "error": "...", "late_error": "...", "hang": true}
// of which the first answers whose `when` is part of the last message of the conversation. What the model
// says is `text`, with tool calls and thoughts as a model writes them; an error comes before it or behind it;
// an answer that hangs ends when it is cancelled. RECORD.jsonl gets a line for each request: method, path,
// body.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "api/fakes_for_test.h"
#include "api/json_text.h"
#include "api/service.h"
#include "server/server.h"

namespace packmule {
namespace {

constexpr char kMessageBegin = '\x1e';
constexpr size_t kPieceBytes = 4;

class ScriptedBackend : public api::FakeBackend {
 public:
  explicit ScriptedBackend(Json rules) : rules_(std::move(rules)) {
    model.name = "scripted";
    model.n_ctx = model.n_ctx_train = 1'000'000;
  }

  /// Tells where a message begins.
  Result<chat::Rendered> apply_template(const Json& messages, const Json& tools, const Json&) override {
    std::string out;
    if (!tools.is_null()) out += tools.dump();
    for (const Json& m : messages) {
      out += kMessageBegin + m["role"].get<std::string>() + ":" + m["content"].get<std::string>();
      if (m.contains("reasoning_content")) out += "\nthought: " + m["reasoning_content"].dump();
      if (m.contains("tool_calls")) out += "\ncalls: " + m["tool_calls"].dump();
    }
    return chat::Rendered{.text = out + kMessageBegin + "assistant:"};
  }

  Result<engine::Outcome> generate(const engine::Request& request, const engine::Callbacks& callbacks,
                                   std::stop_token stop) override {
    const Json rule = rule_for(request);
    if (rule.contains("error")) return fail(ErrorKind::kInternal, "{}", rule["error"].get<std::string>());
    engine::Outcome outcome{.seed = 1};
    std::string text = rule.value("text", std::string());
    for (const std::string& word : request.stop)
      if (const size_t at = text.find(word); at != std::string::npos) {
        text.resize(at);
        outcome.stop_string = word;
        outcome.reason = engine::FinishReason::kStopString;
      }
    if (callbacks.on_prompt) callbacks.on_prompt(1, {});
    // One byte a token where the client wants to hear of each token.
    const size_t piece_bytes = request.n_logprobs >= 0 ? 1 : kPieceBytes;
    for (size_t i = 0; i < text.size() && !stop.stop_requested();) {
      if (static_cast<int64_t>(outcome.tokens.size()) == request.max_tokens) {
        outcome.reason = engine::FinishReason::kLength;
        break;
      }
      size_t end = std::min(i + piece_bytes, text.size());
      while (end < text.size() && (text[end] & 0xc0) == 0x80) ++end;  // whole characters
      const std::string piece = text.substr(i, end - i);
      const auto token = static_cast<unsigned char>(piece[0]);
      std::vector<engine::TokenLogprob> logprobs = {
          {token, -0.25f}, {token, -0.25f}, {'?', -1.5f}, {'!', -3}};
      logprobs.resize(std::min<size_t>(4, static_cast<size_t>(request.n_logprobs + 1)));
      outcome.text += piece;
      outcome.tokens.push_back(token);
      if (callbacks.on_piece) callbacks.on_piece({.text = piece, .token = token, .logprobs = logprobs});
      i = end;
    }
    if (rule.contains("late_error"))
      return fail(ErrorKind::kInternal, "{}", rule["late_error"].get<std::string>());
    if (rule.value("hang", false)) {
      std::mutex mutex;
      std::condition_variable_any never;
      std::unique_lock lock(mutex);
      never.wait(lock, stop, [] { return false; });
    }
    if (stop.stop_requested()) outcome.reason = engine::FinishReason::kCancelled;
    const auto n_prompt = static_cast<int64_t>(request.prompt.size());
    outcome.statistics = {.prompt_tokens = n_prompt,
                          .cached_tokens = std::min<int64_t>(2, n_prompt),
                          .generated_tokens = static_cast<int64_t>(outcome.tokens.size()),
                          .prompt_ms = 1,
                          .generate_ms = 1};
    return outcome;
  }

 private:
  Json rule_for(const engine::Request& request) const {
    std::string prompt;
    for (const int32_t token : request.prompt) prompt += token_bytes(token % 1000);
    std::string_view last = prompt;
    if (const size_t end = last.rfind(kMessageBegin); end != std::string_view::npos)
      last = last.substr(0, end);
    if (const size_t begin = last.rfind(kMessageBegin); begin != std::string_view::npos)
      last = last.substr(begin);
    for (const Json& rule : rules_)
      if (last.find(rule["when"].get<std::string>()) != std::string_view::npos) return rule;
    return {{"text", "No rule of the script fits."}};
  }

  const Json rules_;
};

/// Writes down what is asked before it is answered.
class Recorder : public api::Handler {
 public:
  Recorder(api::Handler& next, const char* path) : next_(next) {
    if (path != nullptr) out_.open(path);
  }
  void handle(api::HttpRequest request, std::shared_ptr<api::Responder> responder) override {
    if (out_.is_open())
      out_ << api::to_text({{"method", request.method}, {"path", request.path()}, {"body", request.body}})
           << std::endl;
    next_.handle(std::move(request), std::move(responder));
  }

 private:
  api::Handler& next_;
  std::ofstream out_;
};

int run(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: packmule_scripted_server SCRIPT.json [RECORD.jsonl]\n");
    return 2;
  }
  std::ifstream file(argv[1]);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto rules = parse_json(text, argv[1]);
  if (!rules) {
    fmt::print(stderr, "{}\n", rules.error().message);
    return 2;
  }
  api::Service service({.log = [](const std::string& line) { fmt::print(stderr, "{}\n", line); }});
  service.set_backend(std::make_unique<ScriptedBackend>(std::move(*rules)));
  Recorder recorder(service, argc > 2 ? argv[2] : nullptr);
  auto server = server::Server::listen({.port = 0, .handle_signals = true}, recorder);
  if (!server) {
    fmt::print(stderr, "{}\n", server.error().message);
    return 1;
  }
  fmt::print("listening on http://127.0.0.1:{}\n", (*server)->port());
  std::fflush(stdout);
  (*server)->run();
  return 0;
}

}  // namespace
}  // namespace packmule

int main(int argc, char** argv) {
  return packmule::run(argc, argv);
}
