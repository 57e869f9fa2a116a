// The body of POST /v1/chat/completions as a checked request.
//
// Unknown fields are ignored, as all servers of this API do. Fields that are known and would change the
// answer, but are not supported, are refused: a schema or a forced tool that is silently dropped would look
// like a wrong answer of the model.
#pragma once

#include <string>

#include "api/error.h"
#include "api/generation_fields.h"
#include "api/output_grammar.h"
#include "base/json.h"
#include "engine/engine.h"

namespace packmule::api {

struct ChatRequest {
  // For the template.
  Json messages;  // as parse_messages gives them
  Json tools;     // null: none
  Json kwargs;    // object, with add_generation_prompt

  engine::Request generation;  // all but the prompt
  TextBias text_bias;
  int64_t n = 1;  // answers

  OutputForm output;

  Streaming streaming;
  bool parallel_tool_calls = true;  // false: at most one call in an answer
  bool split_reasoning = true;      // thoughts go to reasoning_content, not content
};

/// `defaults` hold what the request does not set; `n_vocab` bounds token ids.
[[nodiscard]] ApiResult<ChatRequest> parse_chat_request(const Json& body, const sampling::Params& defaults,
                                                        int64_t n_vocab);

/// The part of it that POST /apply-template takes: messages, tools, kwargs.
[[nodiscard]] ApiResult<ChatRequest> parse_template_request(const Json& body);

}  // namespace packmule::api
