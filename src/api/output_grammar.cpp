#include "api/output_grammar.h"

#include <fmt/format.h>

#include <algorithm>

#include "grammar/gbnf.h"

namespace packmule::api {
namespace {

void read_response_format(Fields& fields, const Json& format, OutputForm& out) {
  if (!format.is_object())
    return fields.fail("response_format", fmt::format("expected an object, found {}", type_name(format)));
  const Json type = format.value("type", Json());
  if (type == "text") return;
  if (type == "json_object") {
    // llama-server takes a schema here.
    if (const auto schema = format.find("schema"); schema != format.end() && !schema->is_null()) {
      out.schema = *schema;
      out.field = "response_format.schema";
    } else {
      out.json_object = true;
      out.field = "response_format";
    }
    return;
  }
  if (type != "json_schema")
    return fields.fail("response_format", "expected the type \"text\", \"json_object\" or \"json_schema\"");
  const auto holder = format.find("json_schema");
  const auto schema = holder != format.end() && holder->is_object() ? holder->find("schema") : holder;
  if (holder == format.end() || !holder->is_object() || schema == holder->end())
    return fields.fail("response_format",
                       "expected {\"type\": \"json_schema\", \"json_schema\": {\"schema\": ...}}");
  out.schema = *schema;
  out.field = "response_format.json_schema.schema";
}

/// {"type": "function", "function": {"name": ...}}, which must be one of the tools.
void read_named_tool(Fields& fields, const Json& named, const Json& tools, OutputForm& out) {
  const Json function = named.is_object() ? named.value("function", Json()) : Json();
  const Json name = function.is_object() ? function.value("name", Json()) : Json();
  if (!name.is_string())
    return fields.fail("tool_choice",
                       "expected \"auto\", \"none\", \"required\", {\"type\": \"function\", \"function\": "
                       "{\"name\": ...}} or {\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\", "
                       "\"tools\"}}");
  const bool known = tools.is_array() && std::any_of(tools.begin(), tools.end(), [&](const Json& tool) {
                       return tool.at("function").at("name") == name;
                     });
  if (!known) return fields.fail("tool_choice", "the function that is to be called is not among the tools");
  out.only_tools.push_back(name.get<std::string>());
}

void read_tool_choice(Fields& fields, const Json& choice, const Json& tools, OutputForm& out) {
  if (choice == "auto" || choice == "none") return;
  if (choice == "required") {
    out.calls_required = true;
  } else if (choice.is_object() && choice.value("type", Json()) == "allowed_tools") {
    const Json allowed = choice.value("allowed_tools", Json());
    const Json mode = allowed.is_object() ? allowed.value("mode", Json()) : Json();
    const Json list = allowed.is_object() ? allowed.value("tools", Json()) : Json();
    if ((mode != "auto" && mode != "required") || !list.is_array() || list.empty())
      return fields.fail("tool_choice.allowed_tools",
                         "expected a \"mode\", \"auto\" or \"required\", and \"tools\", at least one");
    out.calls_required = mode == "required";
    for (const Json& tool : list) read_named_tool(fields, tool, tools, out);
  } else {
    out.calls_required = true;
    read_named_tool(fields, choice, tools, out);
  }
  if (!tools.is_array()) fields.fail("tool_choice", "a call is required, but there are no tools");
}

}  // namespace

void read_output_form(Fields& fields, const Json& tools, OutputForm& out) {
  int n_forms = 0;
  if (const Json* format = fields.get("response_format")) read_response_format(fields, *format, out);
  n_forms += out.constrains_text() ? 1 : 0;
  if (const Json* schema = fields.get("json_schema");
      schema != nullptr && !(schema->is_string() && *schema == "")) {
    out.schema = *schema;
    out.field = "json_schema";
    ++n_forms;
  }
  fields.read("grammar", out.gbnf, grammar::kMaxGbnfBytes);
  if (!out.gbnf.empty()) {
    out.field = "grammar";
    ++n_forms;
  }
  if (n_forms > 1)
    fields.fail("response_format",
                "only one of response_format, json_schema and grammar can say what the answer is");
  if (const Json* choice = fields.get("tool_choice")) read_tool_choice(fields, *choice, tools, out);
  if (out.calls_required && n_forms > 0)
    fields.fail("tool_choice", "an answer that must be a call cannot have another form as well");
}

ApiResult<OutputGrammars::Made> OutputGrammars::get(const OutputForm& form, const Json& tools,
                                                    bool several_calls, const AnswerHabits& habits) {
  using Calls = grammar::AnswerRules::Calls;
  const bool free_calls = !tools.is_null() && habits.writes_calls && !form.calls_required;
  if (!form.constrains_text() && !form.calls_required && !free_calls) return Made{};
  if (form.calls_required && !habits.writes_calls)
    return tl::unexpected(
        bad_field("tool_choice", "the chat template of this model does not show how tools are called"));
  // A grammar given by the caller is all of the answer.
  const bool with_calls = !tools.is_null() && habits.writes_calls && form.gbnf.empty();
  Json callable = tools;
  if (!form.only_tools.empty()) {
    callable = Json::array();
    for (const Json& tool : tools)
      if (std::find(form.only_tools.begin(), form.only_tools.end(),
                    tool.at("function").at("name").get_ref<const std::string&>()) != form.only_tools.end())
        callable.push_back(tool);
  }
  const grammar::Thought thought = habits.inside_thought                      ? grammar::Thought::kOpen
                                   : habits.thinks && !habits.thought_is_over ? grammar::Thought::kMaybe
                                                                              : grammar::Thought::kNone;
  const grammar::AnswerRules rules{.thought = thought,
                                   .calls = form.calls_required ? Calls::kRequired
                                            : with_calls        ? Calls::kFree
                                                                : Calls::kNone,
                                   .form = habits.call_form,
                                   .tools = &callable,
                                   .several_calls = several_calls,
                                   .json_object = form.json_object,
                                   .schema = form.schema.is_null() ? nullptr : &form.schema,
                                   .gbnf = form.gbnf};
  std::string key = fmt::format("{} {} {} {} {} ", static_cast<int>(thought), static_cast<int>(rules.calls),
                                static_cast<int>(rules.form), several_calls, form.json_object);
  const auto add = [&key](const std::string& part) { key += fmt::format("{}:{}", part.size(), part); };
  add(form.schema.dump(-1, ' ', false, Json::error_handler_t::replace));
  add(form.gbnf);
  if (rules.calls != Calls::kNone) add(callable.dump(-1, ' ', false, Json::error_handler_t::replace));

  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(kept_.begin(), kept_.end(), [&](const auto& one) { return one.first == key; });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return kept_.front().second;
  }
  Made made;
  auto compiled = grammar::compile_answer(rules);
  if (compiled) {
    made.grammar = std::make_shared<const grammar::TokenGrammar>(compiled->grammar, vocabulary_);
    // The reasons hold words of the conversation, and the log must not. `required` gives them to the caller.
    if (const size_t n = compiled->warnings.size(); n > 0)
      made.warnings.push_back(
          fmt::format("{} schemas of tools or their parameters are not supported and not constrained", n));
  } else if (rules.calls == Calls::kFree && !form.constrains_text()) {
    made.warnings.push_back("tool calls are not constrained: their grammar is too large");
  } else {
    const std::string field = form.calls_required ? "tools" : form.field;
    return tl::unexpected(bad_field(field, fmt::format("'{}': {}", field, compiled.error().message)));
  }
  kept_.emplace_front(std::move(key), made);
  if (kept_.size() > kKept) kept_.pop_back();
  return made;
}

}  // namespace packmule::api
