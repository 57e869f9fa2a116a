// POST /v1/chat/completions in its two halves: preparing, which may happen while another answer is being
// generated, and generating, one at a time.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "api/answer_reader.h"
#include "api/backend.h"
#include "api/chat_request.h"

namespace packmule::api {

struct ChatJob {
  engine::Request generation;
  bool stream = false;
  bool include_usage = false;
  AnswerForm form;
};

/// Renders the template of a request, also for POST /apply-template.
[[nodiscard]] ApiResult<chat::Rendered> render_prompt(Backend& backend, const ChatRequest& request);

/// Everything that can be wrong with a request is found here: JSON, fields, template, length.
[[nodiscard]] ApiResult<ChatJob> prepare_chat(Backend& backend, const HttpRequest& request);

/// Generates and answers. `stop` is the server's own wish to end; that of the responder is heeded as well.
/// `log` takes a line of figures, never text of the conversation.
void run_chat(Backend& backend, const ChatJob& job, Responder& responder, const std::stop_token& stop,
              const std::function<void(const std::string&)>& log);

}  // namespace packmule::api
