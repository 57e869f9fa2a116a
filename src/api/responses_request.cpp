#include "api/responses_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "api/fields.h"
#include "api/generation_fields.h"
#include "api/messages.h"
#include "api/responses_tools.h"

namespace packmule::api {
namespace {

constexpr std::string_view kNothingStored = "nothing is stored here, send the whole conversation as 'input'";

constexpr Unsupported kUnsupported[] = {
    {"previous_response_id", is_empty, kNothingStored},
    {"conversation", is_empty, kNothingStored},
    {"prompt", is_empty, kNothingStored},
    {"background", is_false, "answers are not kept for later"},
};

ApiResult<std::string> content_text(const Json& content, const std::string& where) {
  return text_of_content(content, where,
                         {"input_text", "output_text", "text", "reasoning_text", "summary_text", "refusal"});
}

/// Collects the items of the input as messages.
class Conversation {
 public:
  explicit Conversation(std::string instructions) : system_(std::move(instructions)) {}

  ApiResult<void> add(const Json& item, const std::string& here) {
    API_TRY_STATUS(expect_object(item, here));
    const Json type = item.value("type", Json("message"));
    if (type == "message") return add_message(item, here);
    if (type == "function_call") return add_call(item, here);
    if (type == "function_call_output") return add_output(item, here);
    if (type == "reasoning") return add_reasoning(item, here);
    return refuse_field(here + ".type",
                        "expected \"message\", \"function_call\", \"function_call_output\" or \"reasoning\"");
  }

  [[nodiscard]] Json messages() && {
    if (!system_.empty())
      messages_.insert(messages_.begin(), Json{{"role", "system"}, {"content", std::move(system_)}});
    return std::move(messages_);
  }

 private:
  ApiResult<void> add_message(const Json& item, const std::string& here) {
    API_TRY(const std::string role, required_string(item, "role", here));
    const auto content = item.find("content");
    if (content == item.end()) return refuse_field(here + ".content", "missing");
    API_TRY(std::string text, content_text(*content, here + ".content"));
    const bool is_system = role == "system" || role == "developer";
    if (is_system && messages_.empty()) {
      if (!system_.empty() && !text.empty()) system_ += "\n\n";
      system_ += text;
    } else if (is_system || role == "user") {
      messages_.push_back({{"role", is_system ? "system" : "user"}, {"content", std::move(text)}});
    } else if (role == "assistant") {
      Json& message = assistant();
      std::string& spoken = message["content"].get_ref<std::string&>();
      // Behind a call there is a new message.
      if (!spoken.empty() || message.contains("tool_calls"))
        messages_.push_back({{"role", "assistant"}, {"content", std::move(text)}});
      else
        spoken = std::move(text);
    } else {
      return refuse_field(here + ".role", "expected \"system\", \"developer\", \"user\" or \"assistant\"");
    }
    return {};
  }

  ApiResult<void> add_call(const Json& item, const std::string& here) {
    API_TRY(const std::string id, required_string(item, "call_id", here));
    API_TRY(const std::string name, required_string(item, "name", here));
    API_TRY(const std::string arguments, required_string(item, "arguments", here));
    std::string space;
    if (const Json given = item.value("namespace", Json()); given.is_string()) space = given;
    assistant()["tool_calls"].push_back(
        {{"id", id},
         {"type", "function"},
         {"function", {{"name", flat_name(space, name)}, {"arguments", arguments}}}});
    return {};
  }

  ApiResult<void> add_output(const Json& item, const std::string& here) {
    API_TRY(const std::string id, required_string(item, "call_id", here));
    API_TRY(std::string text, content_text(item.value("output", Json()), here + ".output"));
    messages_.push_back({{"role", "tool"}, {"tool_call_id", id}, {"content", std::move(text)}});
    return {};
  }

  /// Thoughts in clear, or at least what they came to. Encrypted ones can only be read by their sender.
  ApiResult<void> add_reasoning(const Json& item, const std::string& here) {
    API_TRY(std::string text, content_text(item.value("content", Json()), here + ".content"));
    if (text.empty()) {
      API_TRY(text, content_text(item.value("summary", Json()), here + ".summary"));
    }
    if (text.empty()) return {};
    messages_.push_back({{"role", "assistant"}, {"content", ""}, {"reasoning_content", std::move(text)}});
    return {};
  }

  Json& assistant() {
    if (messages_.empty() || messages_.back()["role"] != "assistant")
      messages_.push_back({{"role", "assistant"}, {"content", ""}});
    return messages_.back();
  }

  std::string system_;
  Json messages_ = Json::array();
};

ApiResult<Json> chat_messages(const Json& body) {
  std::string instructions;
  Fields fields(body);
  fields.read("instructions", instructions, std::numeric_limits<size_t>::max());
  if (fields.error()) return tl::unexpected(*fields.error());
  Conversation conversation(std::move(instructions));
  const Json* input = fields.get("input");
  if (input == nullptr) return refuse_field("input", "missing");
  if (!input->is_string() && !input->is_array())
    return refuse_field("input",
                        fmt::format("expected a string or an array of items, found {}", type_name(*input)));
  const Json items = input->is_string() ? Json::array({{{"role", "user"}, {"content", *input}}}) : *input;
  for (size_t i = 0; i < items.size(); ++i)
    API_TRY_STATUS(conversation.add(items[i], fmt::format("input[{}]", i)));
  return std::move(conversation).messages();
}

/// "auto", "none" and "required" are the same; what is named is so one level higher.
Json chat_tool_choice(const Json& choice) {
  if (!choice.is_object()) return choice;
  if (choice.value("type", Json()) == "allowed_tools") {
    Json tools = Json::array();
    if (const Json list = choice.value("tools", Json()); list.is_array())
      for (const Json& tool : list)  // others are not offered, as in `tools`
        if (tool.is_object() && tool.value("type", Json()) == "function")
          tools.push_back(chat_tool_choice(tool));
    return {{"type", "allowed_tools"},
            {"allowed_tools", {{"mode", choice.value("mode", Json())}, {"tools", std::move(tools)}}}};
  }
  if (choice.value("type", Json()) != "function") return choice;
  Json name = choice.value("name", Json());
  const Json space = choice.value("namespace", Json());
  if (name.is_string() && space.is_string())
    name = flat_name(space.get<std::string>(), name.get<std::string>());
  return {{"type", "function"}, {"function", {{"name", std::move(name)}}}};
}

/// text.format, which says in one object what response_format says in two.
ApiResult<Json> chat_response_format(const Json& text) {
  API_TRY_STATUS(expect_object(text, "text"));
  Json format = text.value("format", Json());
  if (format.is_null()) return format;
  API_TRY_STATUS(expect_object(format, "text.format"));
  if (format.value("type", Json()) != "json_schema") return format;
  format.erase("type");
  return Json{{"type", "json_schema"}, {"json_schema", std::move(format)}};
}

}  // namespace

ApiResult<Json> chat_from_responses(const Json& body) {
  Fields fields(body);
  refuse_unsupported(fields, kUnsupported);
  if (fields.error()) return tl::unexpected(*fields.error());
  Json out = Json::object();
  API_TRY(out["messages"], chat_messages(body));
  if (out["messages"].empty()) return refuse_field("input", "expected at least one message");
  for (const char* name : {"temperature", "top_p", "stream", "parallel_tool_calls"})
    if (const Json* value = fields.get(name)) out[name] = *value;
  if (const Json* value = fields.get("max_output_tokens")) out["max_tokens"] = *value;
  if (const Json* tools = fields.get("tools")) {
    API_TRY(out["tools"], chat_tools_of_responses(*tools));
  }
  if (const Json* choice = fields.get("tool_choice")) out["tool_choice"] = chat_tool_choice(*choice);
  if (const Json* text = fields.get("text")) {
    API_TRY(const Json format, chat_response_format(*text));
    if (!format.is_null()) out["response_format"] = format;
  }
  if (const Json* included = fields.get("include");
      included != nullptr && included->is_array() &&
      std::find(included->begin(), included->end(), "message.output_text.logprobs") != included->end())
    out["logprobs"] = true;
  if (const Json* top = fields.get("top_logprobs"); top != nullptr && *top != 0) {
    out["logprobs"] = true;
    out["top_logprobs"] = *top;
  }
  if (const Json* reasoning = fields.get("reasoning"); reasoning != nullptr && reasoning->is_object())
    out["reasoning_effort"] = reasoning->value("effort", Json());
  if (const Json* kwargs = fields.get("chat_template_kwargs")) out["chat_template_kwargs"] = *kwargs;
  return out;
}

}  // namespace packmule::api
