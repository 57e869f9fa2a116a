#include "grammar/answer_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/schema_keywords.h"
#include "grammar/schema_strings.h"

namespace packmule::grammar {
namespace {

const CharSet kSpaces = {{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};

/// Any white space between these texts, as an automaton to be looked for.
class Forbidden {
 public:
  Forbidden() {
    nfa_.add_state();
    end_ = nfa_.add_state();
  }
  void text(std::string_view text) { nfa_.text(0, text, end_); }
  void spaced(std::string_view first, std::string_view second) {
    const uint32_t between = nfa_.add_state();
    nfa_.text(0, first, between);
    for (const CharRange& range : kSpaces)
      nfa_.byte(between, static_cast<uint8_t>(range.first), static_cast<uint8_t>(range.last), between);
    nfa_.text(between, second, end_);
  }
  [[nodiscard]] Result<Dfa> texts_without(Effort& effort) const {
    return grammar::texts_without(nfa_, end_, effort);
  }

 private:
  Nfa nfa_;
  uint32_t end_ = 0;
};

class AnswerCompiler {
 public:
  explicit AnswerCompiler(const AnswerRules& rules) : rules_(rules), json_(source_) {}

  Result<AnswerGrammar> run() {
    PACKMULE_TRY(Expr body, answer());
    if (rules_.thought != Thought::kNone && !free_text_) {
      PACKMULE_TRY(body, behind_thought(body));
    }
    const RuleId root = source_.add_rule("the answer", RuleKind::kSeparate);
    source_.define(root, body);
    PACKMULE_TRY(out_.grammar, Grammar::compile(source_, root, effort_));
    return std::move(out_);
  }

 private:
  Expr text(std::string_view bytes) { return source_.text(bytes); }
  Expr spaces() { return source_.repeat(source_.chars(kSpaces), 0, kUnlimited); }
  Expr separate(const char* name, Expr body) {
    const RuleId id = source_.add_rule(name, RuleKind::kSeparate);
    source_.define(id, body);
    return source_.rule(id);
  }

  Result<Expr> answer() {
    using Calls = AnswerRules::Calls;
    std::optional<Expr> rest;
    if (rules_.json_object) {
      rest = json_.any_object();
    } else if (rules_.schema != nullptr) {
      PACKMULE_TRY(rest, SchemaReader(json_, *rules_.schema, effort_).value(*rules_.schema, ""));
    } else if (!rules_.gbnf.empty()) {
      PACKMULE_TRY(const RuleId root, read_gbnf(rules_.gbnf, source_));
      rest = source_.rule(root);
    }
    if (rules_.calls == Calls::kNone) {
      if (rest) return *rest;
      return fail(ErrorKind::kInternal, "an answer without rules has no grammar");
    }
    PACKMULE_TRY(const Expr call, any_call());
    if (rules_.calls == Calls::kRequired || rest) {
      const Expr more = source_.sequence({source_.repeat(text("\n"), 0, 2), call});
      const Expr calls =
          rules_.several_calls ? source_.sequence({call, source_.repeat(more, 0, kUnlimited)}) : call;
      return rules_.calls == Calls::kRequired ? calls : source_.choice({*rest, calls});
    }
    free_text_ = true;
    Forbidden start;
    start.spaced("<tool_call>", rules_.form == CallForm::kXml ? "<function=" : "{");
    PACKMULE_TRY(Dfa dfa, start.texts_without(effort_));
    const Expr free = separate("text", source_.automaton(std::move(dfa)));
    return source_.sequence({free, source_.repeat(source_.sequence({call, free}), 0, kUnlimited)});
  }

  Result<Expr> behind_thought(Expr body) {
    Forbidden end;
    end.text("</think>");
    PACKMULE_TRY(Dfa dfa, end.texts_without(effort_));
    const Expr thought =
        separate("a thought", source_.sequence({source_.automaton(std::move(dfa)), text("</think>")}));
    const Expr breaks = source_.repeat(text("\n"), 0, 4);
    if (rules_.thought == Thought::kOpen) return source_.sequence({thought, breaks, body});
    return source_.sequence({source_.optional(source_.sequence({text("<think>"), thought, breaks})), body});
  }

  Result<Expr> any_call() {
    std::vector<Expr> calls;
    for (const Json& tool : *rules_.tools) {
      const Json& function = tool.at("function");
      const auto name = function.at("name").get<std::string>();
      PACKMULE_TRY(const Expr one,
                   rules_.form == CallForm::kXml ? xml_call(name, function) : json_call(name, function));
      calls.push_back(one);
    }
    const Expr gap = rules_.calls == AnswerRules::Calls::kFree ? spaces() : text("\n");
    const bool xml = rules_.form == CallForm::kXml;
    return separate("a tool call",
                    source_.sequence({text("<tool_call>"), gap, text(xml ? "<function=" : "{"),
                                      source_.choice(std::move(calls)), text(xml ? "\n</tool_call>" : ""),
                                      xml ? text("") : source_.sequence({text("\n</tool_call>")})}));
  }

  /// What to do about a schema that is not supported: an error, or nothing but a warning.
  Status tolerate(const std::string& name, const Error& error) {
    const std::string message = fmt::format("tool '{}': parameters: {}", name, error.message);
    if (rules_.calls == AnswerRules::Calls::kRequired) return fail(error.kind, "{}", message);
    out_.warnings.push_back(message);
    return {};
  }

  /// Behind `{`.
  Result<Expr> json_call(const std::string& name, const Json& function) {
    Expr arguments = source_.sequence({text("{"), json_.space(), text("}")});
    if (const auto schema = function.find("parameters"); schema != function.end() && !schema->is_null()) {
      auto made = SchemaReader(json_, *schema, effort_).value(*schema, "");
      if (made) {
        arguments = *made;
      } else {
        PACKMULE_TRY_STATUS(tolerate(name, made.error()));
        arguments = json_.any_object();
      }
    }
    return source_.sequence({json_.space(), text("\"name\""), json_.colon(), text(json_of(Json(name))),
                             json_.comma(), text("\"arguments\""), json_.colon(), arguments, json_.space(),
                             text("}")});
  }

  /// Behind `<function=`.
  Result<Expr> xml_call(const std::string& name, const Json& function) {
    const Expr begin = text(name + ">\n");
    const Expr end = text("</function>");
    const auto schema = function.find("parameters");
    if (schema == function.end() || schema->is_null()) return source_.sequence({begin, end});
    SchemaReader reader(json_, *schema, effort_);
    auto flat = reader.flat(*schema, "");
    Json properties = Json::object();
    std::vector<std::string> required;
    if (flat) {
      properties = flat->value("properties", Json::object());
      for (const Json& key : flat->value("required", Json::array()))
        required.push_back(key.get<std::string>());
      for (const char* keyword : {"anyOf", "oneOf", "minProperties", "maxProperties", "enum", "const"})
        if (flat->contains(keyword))
          flat = fail(ErrorKind::kUnsupported, "#: '{}' is not supported for calls in XML", keyword);
    }
    if (!flat) {
      PACKMULE_TRY_STATUS(tolerate(name, flat.error()));
      // The properties, if they are what they should be, may all be left out, others be given.
      properties = schema->is_object() ? schema->value("properties", Json::object()) : Json::object();
      if (!properties.is_object()) properties = Json::object();
      required.clear();
    }
    PACKMULE_TRY(const Expr free_value, free_text(properties));
    for (const std::string& key : required)
      if (!properties.contains(key)) properties[key] = true;
    const auto n = static_cast<uint32_t>(properties.size());
    const auto place = [](uint32_t i) { return i + 2; };
    std::vector<Source::Edge> edges{{0, place(0), text("")}, {place(n), 1, text("")}};
    uint32_t i = 0;
    for (const auto& [key, property] : properties.items()) {
      auto value = parameter(reader, property, step("/properties", key), free_value);
      if (!value) {
        PACKMULE_TRY_STATUS(tolerate(name, value.error()));
        value = free_value;
      }
      edges.push_back(
          {place(i), place(i + 1), source_.sequence({text("<parameter=" + key + ">"), *value, text("\n")})});
      if (std::find(required.begin(), required.end(), key) == required.end())
        edges.push_back({place(i), place(i + 1), text("")});
      ++i;
    }
    const bool more =
        !flat || (properties.empty() && flat->value("additionalProperties", Json(true)) != false &&
                  !flat->contains("properties"));
    if (more) {
      const Expr key =
          source_.repeat(source_.chars(complement({{'<', '<'}, {'>', '>'}, {'\n', '\n'}})), 1, kUnlimited);
      edges.push_back({place(n), place(n),
                       source_.sequence({text("<parameter="), key, text(">"), free_value, text("\n")})});
    }
    return source_.sequence(
        {begin, separate("the parameters of a call", source_.graph(n + 3, std::move(edges))), end});
  }

  /// Any text from behind `<parameter=KEY>` through `</parameter>`, but what would be read as its end.
  Result<Expr> free_text(const Json& properties) {
    Forbidden inside;
    for (const char* tag : {"<parameter=", "</function>", "</tool_call>", "</parameter>"})
      inside.spaced("</parameter>", tag);
    for (const auto& [key, property] : properties.items()) inside.text("\n<parameter=" + key + ">");
    inside.spaced("</function>", "</tool_call>");
    inside.spaced("</tool_call>", "<tool_call>");
    PACKMULE_TRY(const Dfa allowed, inside.texts_without(effort_));
    // It begins with a line break, behind which a tag would be at the start of a line.
    Nfa nfa;
    const uint32_t start = nfa.add_state(), end = nfa.add_state();
    nfa.text(start, "\n", end);
    nfa.byte(end, 0, 255, end);
    PACKMULE_TRY(const Dfa line, determinize(nfa, start, end, effort_));
    PACKMULE_TRY(Dfa value, intersect(line, allowed, effort_));
    return separate("the value of a parameter",
                    source_.sequence({source_.automaton(std::move(value)), text("</parameter>")}));
  }

  /// From behind `<parameter=KEY>` through `</parameter>`.
  Result<Expr> parameter(SchemaReader& reader, const Json& schema, const std::string& pointer,
                         Expr free_value) {
    PACKMULE_TRY(const Json flat, reader.flat(schema, pointer));
    for (const char* keyword : {"anyOf", "oneOf"}) {
      const auto list = flat.find(keyword);
      if (list == flat.end()) continue;
      std::vector<Expr> choices;
      for (const Json& one : *list) {
        PACKMULE_TRY(const Expr choice, parameter(reader, one, pointer, free_value));
        if (choice == free_value) return free_value;
        choices.push_back(choice);
      }
      return source_.choice(std::move(choices));
    }
    const Expr end = text("\n</parameter>");
    const auto whole = [&](Expr value) { return source_.sequence({text("\n"), value, end}); };
    const bool listed = flat.contains("enum") || flat.contains("const");
    const unsigned types = types_of(flat);
    if ((types & kString) != 0 && !listed && !limits_strings(flat)) return free_value;
    std::vector<Expr> choices;
    if (listed) {
      const Json list = flat.contains("const") ? Json::array({flat["const"]}) : flat["enum"];
      for (const Json& value : list)
        if ((type_of(value) & types) != 0)
          choices.push_back(
              whole(value.is_string() ? text(value.get_ref<const std::string&>()) : json_.literal(value)));
      return source_.choice(std::move(choices));
    }
    if ((types & kString) != 0) {
      auto content = string_content(json_, flat, StringForm::kRaw, effort_);
      if (!content) return bad_schema(content.error().kind, pointer, content.error().message);
      choices.push_back(whole(*content));
    }
    if ((types & kBoolean) != 0)
      choices.push_back(whole(source_.choice({text("true"), text("false"), text("True"), text("False")})));
    if ((types & kNull) != 0) choices.push_back(whole(source_.choice({text("null"), text("None")})));
    const auto of_type = [&](unsigned type, const char* type_name) -> Status {
      if ((types & type) == 0) return {};
      Json one = flat;
      one["type"] = type_name;
      PACKMULE_TRY(const Expr value, reader.value(one, pointer));
      choices.push_back(whole(value));
      return {};
    };
    PACKMULE_TRY_STATUS(of_type(kFraction, "number"));
    if ((types & kFraction) == 0) PACKMULE_TRY_STATUS(of_type(kInteger, "integer"));
    PACKMULE_TRY_STATUS(of_type(kArray, "array"));
    PACKMULE_TRY_STATUS(of_type(kObject, "object"));
    return source_.choice(std::move(choices));
  }

  const AnswerRules& rules_;
  Source source_;
  JsonRules json_;
  Effort effort_;
  bool free_text_ = false;
  AnswerGrammar out_;
};

}  // namespace

Result<AnswerGrammar> compile_answer(const AnswerRules& rules) {
  return AnswerCompiler(rules).run();
}

}  // namespace packmule::grammar
