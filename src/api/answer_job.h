// Generating what a request asks for, and handing it to the client in the words of its dialect.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer_writer.h"
#include "api/backend.h"
#include "api/metrics.h"

namespace packmule::api {

/// A request that was found to be in order.
struct AnswerJob {
  std::vector<engine::Request> generations;  // one for each choice, at least one
  AnswerForm form;
  bool stream = false;
  std::vector<std::string> warnings = {};  // for the log
  ErrorForm error_form = ErrorForm::kOpenAi;
  std::unique_ptr<AnswerWriter> writer;
  std::chrono::steady_clock::time_point arrived = std::chrono::steady_clock::now();
};

/// What a model was given to read, or what it wrote, control tokens of the prompt included.
struct LoggedText {
  std::string_view id;    // of the answer
  std::string_view what;  // "prompt" or "answer"
  std::string text;       // bytes of tokens: not always UTF-8
};

struct JobContext {
  Backend& backend;
  std::function<void(const std::string& line)> log;  // figures, never text of the conversation
  std::function<void(const LoggedText&)> log_text;   // the text, for who asks for it; else unset
  FirstTokenTimes* first_token = nullptr;            // gets how long the first answer took to begin
  std::atomic<int64_t>* n_timed_out = nullptr;       // counts requests that ended because their time was up
};

/// Generates and answers. `stop` is the server's own wish to end; that of the responder is heeded as well. Of
/// a stream nothing is sent before the first sign of life of the generation, so that a request which fails at
/// once still gets a proper status.
void run_job(const AnswerJob& job, Responder& responder, const std::stop_token& stop,
             const JobContext& context);

}  // namespace packmule::api
