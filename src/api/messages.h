// The conversation of a request in the form chat templates expect.
//
// Clients send content as a string, null or a list of parts, tool-call arguments as JSON text, and the role
// `developer`. Templates know strings, objects and `system`. What templates may use and the API does not
// define (reasoning_content, name, ...) is handed on untouched.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "api/error.h"
#include "base/json.h"

namespace packmule::api {

/// Checks `messages` and brings it into the form above: content is always a string (the texts of several
/// parts joined by a newline, as llama-server does), developer is system, empty tool_calls are dropped.
/// Arguments of tool calls stay the JSON text they are.
[[nodiscard]] ApiResult<Json> parse_messages(const Json& messages);

/// The text of a content: a string, null, or a list of parts of these types with a `text` each (a `refusal`
/// has it under that name), which are joined by a newline. `where` names the content in errors.
[[nodiscard]] ApiResult<std::string> text_of_content(const Json& content, const std::string& where,
                                                     std::initializer_list<std::string_view> types);

/// Checks `tools`: an array of {"type": "function", "function": {"name": ...}}. Null for an empty one.
[[nodiscard]] ApiResult<Json> parse_tools(const Json& tools);

/// Replaces the JSON text in the arguments of all tool calls by the object it stands for.
[[nodiscard]] ApiResult<Json> with_object_arguments(Json messages);

/// Finds out whether a template needs the arguments of a tool call as an object: true when it fails on the
/// JSON text or leaves it out. Such templates (Qwen3-Coder's XML form) walk over the entries; others print
/// JSON text as it is, and must be given what the model wrote, not a reformatted copy.
[[nodiscard]] bool needs_object_arguments(
    const std::function<Result<std::string>(const Json& messages)>& render);

/// Finds out whether a template writes tool calls between <tool_call> and </tool_call>, in whatever form:
/// what is looked for in answers (chat/tool_calls.h). A template that refuses the conversation it is tried on
/// says nothing about that; true then, as a call that is not looked for would be lost.
[[nodiscard]] bool writes_tool_calls(const std::function<Result<std::string>(const Json& messages)>& render);

/// Finds out whether a template writes calls as JSON objects ({"name": ...}), not as XML.
[[nodiscard]] bool writes_json_calls(const std::function<Result<std::string>(const Json& messages)>& render);

}  // namespace packmule::api
