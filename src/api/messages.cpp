#include "api/messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/fields.h"

namespace packmule::api {
namespace {

ApiResult<void> check_tool_calls(const Json& calls, const std::string& where) {
  API_TRY_STATUS(expect_array(calls, where));
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string here = fmt::format("{}[{}]", where, i);
    if (!calls[i].is_object())
      return refuse_field(here, fmt::format("expected an object, found {}", type_name(calls[i])));
    const auto function = calls[i].find("function");
    if (function == calls[i].end() || !function->is_object())
      return refuse_field(here + ".function", "expected an object");
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string())
      return refuse_field(here + ".function.name", "expected a string");
    const auto arguments = function->find("arguments");
    if (arguments == function->end() || !(arguments->is_string() || arguments->is_object()))
      return refuse_field(here + ".function.arguments", "expected a JSON object, or one written as a string");
  }
  return {};
}

ApiResult<Json> parse_message(const Json& message, const std::string& here) {
  API_TRY_STATUS(expect_object(message, here));
  const auto role_field = message.find("role");
  if (role_field == message.end() || !role_field->is_string())
    return refuse_field(here + ".role", "expected a string");
  const std::string role = role_field->get<std::string>();
  if (role != "system" && role != "developer" && role != "user" && role != "assistant" && role != "tool")
    return refuse_field(here + ".role",
                        "expected \"system\", \"developer\", \"user\", \"assistant\" or \"tool\"");

  Json out = message;
  if (role == "developer") out["role"] = "system";
  const auto calls = out.find("tool_calls");
  if (calls != out.end()) {
    if (calls->is_null() || (calls->is_array() && calls->empty())) {
      out.erase("tool_calls");
    } else {
      if (role != "assistant")
        return refuse_field(here + ".tool_calls", "only a message of the assistant can have tool calls");
      API_TRY_STATUS(check_tool_calls(*calls, here + ".tool_calls"));
    }
  }
  const auto content = message.find("content");
  if (content == message.end()) {
    if (role != "assistant") return refuse_field(here + ".content", "missing");
    out["content"] = "";
  } else {
    // What the model would not do is part of what it said.
    API_TRY(out["content"], role == "assistant"
                                ? text_of_content(*content, here + ".content", {"text", "refusal"})
                                : text_of_content(*content, here + ".content", {"text"}));
  }
  return out;
}

constexpr const char* kProbedArguments = R"({"key":"probed-value"})";

/// For templates to be tried on.
Json conversation_with_call(Json arguments) {
  return Json::array(
      {{{"role", "user"}, {"content", "a"}},
       {{"role", "assistant"},
        {"content", ""},
        {"tool_calls",
         Json::array({{{"type", "function"},
                       {"id", "call_1"},
                       {"function", {{"name", "probe"}, {"arguments", std::move(arguments)}}}}})}},
       {{"role", "tool"}, {"tool_call_id", "call_1"}, {"content", "b"}}});
}

}  // namespace

ApiResult<std::string> text_of_content(const Json& content, const std::string& where,
                                       std::initializer_list<std::string_view> types) {
  if (content.is_null()) return std::string();
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    return refuse_field(where, fmt::format("expected a string, null or an array of text parts, found {}",
                                           type_name(content)));
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string here = fmt::format("{}[{}]", where, i);
    const Json& part = content[i];
    API_TRY_STATUS(expect_object(part, here));
    const auto type = part.find("type");
    if (type == part.end() || !type->is_string()) return refuse_field(here + ".type", "expected a string");
    if (std::find(types.begin(), types.end(), type->get_ref<const std::string&>()) == types.end())
      return refuse_field(here + ".type",
                          fmt::format("parts of type {} are not supported, this model reads text only",
                                      type->dump(-1, ' ', false, Json::error_handler_t::replace)));
    const char* field = *type == "refusal" ? "refusal" : "text";
    const auto value = part.find(field);
    if (value == part.end() || !value->is_string())
      return refuse_field(fmt::format("{}.{}", here, field), "expected a string");
    if (i > 0) text += '\n';
    text += value->get_ref<const std::string&>();
  }
  return text;
}

ApiResult<Json> parse_messages(const Json& messages) {
  API_TRY_STATUS(expect_array(messages, "messages"));
  if (messages.empty()) return refuse_field("messages", "expected at least one message");
  Json out = Json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    API_TRY(Json message, parse_message(messages[i], fmt::format("messages[{}]", i)));
    out.push_back(std::move(message));
  }
  return out;
}

ApiResult<Json> parse_tools(const Json& tools) {
  API_TRY_STATUS(expect_array(tools, "tools"));
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string here = fmt::format("tools[{}]", i);
    API_TRY_STATUS(expect_object(tools[i], here));
    if (tools[i].value("type", Json()) != "function")
      return refuse_field(here + ".type", "expected \"function\"");
    const auto function = tools[i].find("function");
    if (function == tools[i].end() || !function->is_object())
      return refuse_field(here + ".function", "expected an object");
    if (!function->value("name", Json()).is_string())
      return refuse_field(here + ".function.name", "expected a string");
  }
  return tools.empty() ? Json(nullptr) : tools;
}

ApiResult<Json> with_object_arguments(Json messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto calls = messages[i].find("tool_calls");
    if (calls == messages[i].end()) continue;
    for (size_t k = 0; k < calls->size(); ++k) {
      Json& arguments = (*calls)[k]["function"]["arguments"];
      if (!arguments.is_string()) continue;
      const std::string where = fmt::format("messages[{}].tool_calls[{}].function.arguments", i, k);
      // Some clients write a call without arguments as an empty text.
      const std::string text = arguments.get<std::string>();
      auto parsed = text.empty() ? Result<Json>(Json::object()) : parse_json(text, where);
      if (!parsed) return tl::unexpected(bad_field(where, parsed.error().message));
      if (!parsed->is_object())
        return refuse_field(where,
                            fmt::format("expected the text of a JSON object, found {}", type_name(*parsed)));
      arguments = std::move(parsed).value();
    }
  }
  return messages;
}

bool needs_object_arguments(const std::function<Result<std::string>(const Json&)>& render) {
  const auto shows_value = [&](Json arguments) {
    const auto text = render(conversation_with_call(std::move(arguments)));
    return text.has_value() && text->find("probed-value") != std::string::npos;
  };
  return !shows_value(kProbedArguments) && shows_value(Json::parse(kProbedArguments));
}

bool writes_tool_calls(const std::function<Result<std::string>(const Json&)>& render) {
  const auto has_tag = [](const Result<std::string>& text) {
    return text.has_value() && text->find("<tool_call>") != std::string::npos;
  };
  const auto of_text = render(conversation_with_call(kProbedArguments));
  const auto of_object = render(conversation_with_call(Json::parse(kProbedArguments)));
  return has_tag(of_text) || has_tag(of_object) || (!of_text && !of_object);
}

bool writes_json_calls(const std::function<Result<std::string>(const Json&)>& render) {
  const auto is_json = [](const Result<std::string>& text) {
    return text.has_value() && text->find("<function=probe") == std::string::npos &&
           text->find("\"name\"") != std::string::npos;
  };
  return is_json(render(conversation_with_call(kProbedArguments))) ||
         is_json(render(conversation_with_call(Json::parse(kProbedArguments))));
}

}  // namespace packmule::api
