// The body of OpenAI's POST /v1/responses, said in the words of a chat request.
//
// Unknown fields are ignored. Nothing is stored here, so what refers to an earlier response, a conversation
// or a stored prompt is refused; `store` itself is ignored. Tools that OpenAI's servers would run (web search
// and the like) and tools with a free text as input are left out: the model is not told of them and cannot
// call them. Agents offer them to every model. Namespaces of functions: responses_tools.h.
#pragma once

#include "api/error.h"
#include "base/json.h"

namespace packmule::api {

/// The body that parse_chat_request takes. `instructions` and the system and developer messages at the
/// beginning of `input` become one system message, as templates know only one; reasoning, messages and
/// function_calls that follow each other one message of the assistant.
[[nodiscard]] ApiResult<Json> chat_from_responses(const Json& body);

}  // namespace packmule::api
