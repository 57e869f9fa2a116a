#include "api/anthropic_request.h"

#include <fmt/format.h>

#include "api/fields.h"
#include "api/json_text.h"
#include "api/messages.h"

namespace packmule::api {
namespace {

constexpr std::string_view kBillingNote = "x-anthropic-billing-header:";

ApiResult<std::string> system_text(const Json& system) {
  if (!system.is_array()) return text_of_content(system, "system", {"text"});
  Json blocks = Json::array();
  for (const Json& block : system) {
    const auto text = block.is_object() ? block.find("text") : block.end();
    const bool is_note = block.is_object() && text != block.end() && text->is_string() &&
                         text->get_ref<const std::string&>().starts_with(kBillingNote);
    if (!is_note) blocks.push_back(block);
  }
  return text_of_content(blocks, "system", {"text"});
}

/// One message of the assistant.
ApiResult<Json> assistant_message(const Json& blocks, const std::string& where) {
  Json texts = Json::array(), calls = Json::array();
  std::string reasoning;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string here = fmt::format("{}[{}]", where, i);
    API_TRY_STATUS(expect_object(blocks[i], here));
    API_TRY(const std::string type, required_string(blocks[i], "type", here));
    if (type == "text") {
      texts.push_back(blocks[i]);
    } else if (type == "thinking") {
      API_TRY(const std::string thought, required_string(blocks[i], "thinking", here));
      reasoning += thought;
    } else if (type == "tool_use") {
      API_TRY(const std::string id, required_string(blocks[i], "id", here));
      API_TRY(const std::string name, required_string(blocks[i], "name", here));
      const auto input = blocks[i].find("input");
      if (input == blocks[i].end() || !input->is_object())
        return refuse_field(here + ".input", "expected an object");
      calls.push_back({{"id", id},
                       {"type", "function"},
                       {"function", {{"name", name}, {"arguments", to_spaced_text(*input)}}}});
    } else if (type != "redacted_thinking") {  // which only its sender can read
      return refuse_field(here + ".type",
                          "expected \"text\", \"thinking\", \"redacted_thinking\" or \"tool_use\"");
    }
  }
  API_TRY(std::string content, text_of_content(texts, where, {"text"}));
  Json message = {{"role", "assistant"}, {"content", std::move(content)}};
  if (!reasoning.empty()) message["reasoning_content"] = std::move(reasoning);
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

/// The messages that a user's blocks stand for: results of tools, and text.
ApiResult<void> add_user_messages(const Json& blocks, const std::string& where, Json& out) {
  Json texts = Json::array();
  const auto flush = [&]() -> ApiResult<void> {
    if (texts.empty()) return {};
    API_TRY(std::string content, text_of_content(texts, where, {"text"}));
    out.push_back({{"role", "user"}, {"content", std::move(content)}});
    texts = Json::array();
    return {};
  };
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string here = fmt::format("{}[{}]", where, i);
    API_TRY_STATUS(expect_object(blocks[i], here));
    API_TRY(const std::string type, required_string(blocks[i], "type", here));
    if (type == "text") {
      texts.push_back(blocks[i]);
      continue;
    }
    if (type != "tool_result")
      return refuse_field(
          here + ".type",
          fmt::format(
              "blocks of type {} are not supported, this model reads \"text\" and \"tool_result\" only",
              to_text(type)));
    if (auto flushed = flush(); !flushed) return flushed;
    API_TRY(const std::string id, required_string(blocks[i], "tool_use_id", here));
    API_TRY(std::string content,
            text_of_content(blocks[i].value("content", Json()), here + ".content", {"text"}));
    out.push_back({{"role", "tool"}, {"tool_call_id", id}, {"content", std::move(content)}});
  }
  return flush();
}

ApiResult<Json> chat_messages(const Json& body) {
  Json out = Json::array();
  if (const auto system = body.find("system"); system != body.end() && !system->is_null()) {
    API_TRY(std::string text, system_text(*system));
    if (!text.empty()) out.push_back({{"role", "system"}, {"content", std::move(text)}});
  }
  const auto messages = body.find("messages");
  if (messages == body.end() || !messages->is_array() || messages->empty())
    return refuse_field("messages", "expected an array of at least one message");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string here = fmt::format("messages[{}]", i);
    const Json& message = (*messages)[i];
    API_TRY_STATUS(expect_object(message, here));
    API_TRY(const std::string role, required_string(message, "role", here));
    if (role != "user" && role != "assistant" && role != "system")
      return refuse_field(here + ".role", "expected \"user\" or \"assistant\"");
    const Json content = message.value("content", Json());
    if (!content.is_array() || role == "system") {
      if (content.is_null()) return refuse_field(here + ".content", "missing");
      API_TRY(std::string text, text_of_content(content, here + ".content", {"text"}));
      out.push_back({{"role", role}, {"content", std::move(text)}});
    } else if (role == "assistant") {
      API_TRY(Json spoken, assistant_message(content, here + ".content"));
      out.push_back(std::move(spoken));
    } else if (auto added = add_user_messages(content, here + ".content", out); !added) {
      return tl::unexpected(std::move(added).error());
    }
  }
  return out;
}

ApiResult<Json> chat_tools(const Json& tools) {
  API_TRY_STATUS(expect_array(tools, "tools"));
  Json out = Json::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string here = fmt::format("tools[{}]", i);
    API_TRY_STATUS(expect_object(tools[i], here));
    const Json type = tools[i].value("type", Json());
    if (!type.is_null() && type != "custom")
      return refuse_field(here + ".type",
                          fmt::format("tools of type {} are not supported, only those the client describes "
                                      "by an 'input_schema' and runs",
                                      to_text(type)));
    Json function = Json::object();
    API_TRY(function["name"], required_string(tools[i], "name", here));
    if (tools[i].contains("description")) function["description"] = tools[i]["description"];
    const auto schema = tools[i].find("input_schema");
    if (schema == tools[i].end() || !schema->is_object())
      return refuse_field(here + ".input_schema", "expected a JSON schema");
    function["parameters"] = *schema;
    out.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return out;
}

ApiResult<void> add_tool_choice(const Json& choice, Json& out) {
  API_TRY_STATUS(expect_object(choice, "tool_choice"));
  const Json type = choice.value("type", Json());
  if (type == "auto" || type == "none") {
    out["tool_choice"] = type;
  } else if (type == "any") {
    out["tool_choice"] = "required";
  } else if (type == "tool") {
    API_TRY(const std::string name, required_string(choice, "name", "tool_choice"));
    out["tool_choice"] = {{"type", "function"}, {"function", {{"name", name}}}};
  } else {
    return refuse_field("tool_choice.type", "expected \"auto\", \"none\", \"any\" or \"tool\"");
  }
  if (choice.value("disable_parallel_tool_use", Json()) == true) out["parallel_tool_calls"] = false;
  return {};
}

/// A model that can be told to think or not is told by a variable of its template.
ApiResult<void> add_thinking(const Json& thinking, Json& out) {
  const Json type = thinking.is_object() ? thinking.value("type", Json()) : Json();
  if (type == "enabled" || type == "adaptive")
    out["chat_template_kwargs"] = {{"enable_thinking", true}};
  else if (type == "disabled")
    out["chat_template_kwargs"] = {{"enable_thinking", false}};
  else
    return refuse_field("thinking.type", "expected \"enabled\", \"adaptive\" or \"disabled\"");
  return {};
}

/// Structured output: in output_config today, once at the top.
ApiResult<void> add_format(const Json& format, Json& out) {
  if (!format.is_object() || format.value("type", Json()) != "json_schema" || !format.contains("schema"))
    return refuse_field("output_config.format", "expected {\"type\": \"json_schema\", \"schema\"}");
  out["response_format"] = {
      {"type", "json_schema"},
      {"json_schema", {{"name", "output"}, {"strict", true}, {"schema", format["schema"]}}}};
  return {};
}

}  // namespace

ApiResult<Json> chat_from_anthropic(const Json& body) {
  Json out = Json::object();
  API_TRY(out["messages"], chat_messages(body));
  Fields fields(body);
  if (const Json* servers = fields.get("mcp_servers"); servers != nullptr && !servers->empty())
    return refuse_field("mcp_servers", "tools on other servers are not supported");
  // Of the same meaning in both.
  for (const char* name : {"max_tokens", "temperature", "top_p", "top_k", "stream"})
    if (const Json* value = fields.get(name)) out[name] = *value;
  if (const Json* stops = fields.get("stop_sequences")) {
    if (!stops->is_array())
      return refuse_field("stop_sequences",
                          fmt::format("expected an array of strings, found {}", type_name(*stops)));
    out["stop"] = *stops;
  }
  if (const Json* tools = fields.get("tools")) {
    API_TRY(out["tools"], chat_tools(*tools));
  }
  const auto add = [&](const Json* value, auto&& how) -> ApiResult<void> {
    return value == nullptr ? ApiResult<void>() : how(*value, out);
  };
  const Json* config = fields.get("output_config");
  const Json* format = fields.get("output_format");
  if (config != nullptr && config->is_object() && config->contains("format")) format = &(*config)["format"];
  if (format != nullptr && format->is_null()) format = nullptr;
  for (const ApiResult<void>& added : {add(fields.get("tool_choice"), add_tool_choice),
                                       add(fields.get("thinking"), add_thinking), add(format, add_format)})
    if (!added) return tl::unexpected(added.error());
  return out;
}

}  // namespace packmule::api
