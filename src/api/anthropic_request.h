// The body of Anthropic's POST /v1/messages, said in the words of a chat request.
//
// Unknown fields are ignored. What would change the answer and cannot be had is refused: images, documents,
// tools that Anthropic's own servers run, MCP servers.
#pragma once

#include "api/error.h"
#include "base/json.h"

namespace packmule::api {

/// The body that parse_chat_request takes. `system` becomes the first message, thoughts reasoning_content,
/// tool_use blocks tool_calls, tool_result blocks messages of the role tool. Blocks of the system prompt that
/// are the client's billing notes, not meant for the model and different with each request, are left out.
[[nodiscard]] ApiResult<Json> chat_from_anthropic(const Json& body);

}  // namespace packmule::api
