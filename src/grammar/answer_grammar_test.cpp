#include "grammar/answer_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grammar/machine.h"
#include "tests/support/test_data.h"

namespace packmule::grammar {
namespace {

using Calls = AnswerRules::Calls;
using testing::HasSubstr;

bool accepts(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Machine machine(grammar);
  ConfigId config = machine.start();
  for (const char c : text) config = machine.step(config, static_cast<uint8_t>(c));
  EXPECT_FALSE(machine.overflowed());
  return machine.complete(config);
}

void check(const AnswerRules& rules, const std::vector<std::string>& yes,
           const std::vector<std::string>& no) {
  const auto made = compile_answer(rules);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  for (const auto& text : yes) EXPECT_TRUE(accepts(made->grammar, text)) << text;
  for (const auto& text : no) EXPECT_FALSE(accepts(made->grammar, text)) << text;
}

Json tools() {
  return Json::parse(R"([
    {"type": "function", "function": {"name": "write", "parameters": {"type": "object", "properties": {
        "path": {"type": "string"}, "mode": {"type": "integer"}, "force": {"type": "boolean"},
        "kind": {"type": "string", "enum": ["a", "b c"]}, "list": {"type": ["array", "null"], "items": {"type": "integer"}}},
        "required": ["path"]}}},
    {"type": "function", "function": {"name": "ping"}}])");
}

std::string xml(const std::string& body) {
  return "<tool_call>\n<function=" + body + "</function>\n</tool_call>";
}

TEST(AnswerGrammar, RequiredCallsInXml) {
  const Json list = tools();
  AnswerRules rules{.calls = Calls::kRequired, .form = CallForm::kXml, .tools = &list};
  const std::string ping = xml("ping>\n");
  const auto write = [](const std::string& parameters) { return xml("write>\n" + parameters); };
  const std::string path = "<parameter=path>\na b\n</parameter>\n";
  check(rules,
        {ping, ping + "\n" + ping, write(path), write(path + "<parameter=mode>\n-3\n</parameter>\n"),
         write("<parameter=path>\n</parameter>\n"), write("<parameter=path>\nx</parameter>\n"),
         write("<parameter=path>\nif a < b:\n  </parameter> is a tag\n\n</parameter>\n"),
         write(path + "<parameter=force>\nTrue\n</parameter>\n<parameter=kind>\nb c\n</parameter>\n"
                      "<parameter=list>\n[1, 2]\n</parameter>\n"),
         write(path + "<parameter=list>\nNone\n</parameter>\n"),
         write("<parameter=path>\n<parameter=other>\n</parameter>\n")},
        {"", "text", ping + "text", "text" + ping, xml("pong>\n"), write(""), xml("ping>\n" + path),
         write(path + path), write("<parameter=mode>\n1\n</parameter>\n"),
         write(path + "<parameter=mode>\none\n</parameter>\n"),
         write(path + "<parameter=kind>\nc\n</parameter>\n"),
         write("<parameter=path>\n<parameter=mode>\n1\n</parameter>\n"),
         write("<parameter=path>\n</function>\n</tool_call>\n</parameter>\n")});
  rules.several_calls = false;
  check(rules, {ping}, {ping + "\n" + ping});
}

TEST(AnswerGrammar, RequiredCallsInJson) {
  const Json list = tools();
  AnswerRules rules{.calls = Calls::kRequired, .form = CallForm::kJson, .tools = &list};
  const auto call = [](const std::string& object) { return "<tool_call>\n" + object + "\n</tool_call>"; };
  const std::string ping = call(R"({"name": "ping", "arguments": {}})");
  check(
      rules, {ping, ping + "\n" + ping, call(R"({"name":"write","arguments":{"path":"x","force":true}})")},
      {"", ping + " ", call(R"({"name": "pong", "arguments": {}})"),
       call(R"({"name": "write", "arguments": {}})"), call(R"({"name": "write", "arguments": {"path": 1}})"),
       call(R"({"arguments": {}, "name": "ping"})")});
}

// Generators of schemas like to put all of it into a definition.
TEST(AnswerGrammar, ParametersBehindAReference) {
  for (
      const char* parameters :
      {R"({"$ref": "#/$defs/P", "$defs": {"P": {"type": "object", "properties": {"n": {"type": "integer"},
            "s": {"$ref": "#/$defs/S"}}, "required": ["n"]}, "S": {"enum": ["a", "b"]}}})",
       R"({"allOf": [{"$ref": "#/$defs/P"}], "description": "d", "$defs": {"P": {"type": "object", "properties": {
            "n": {"type": "integer"}, "s": {"enum": ["a", "b"]}}, "required": ["n"]}}})"}) {
    const Json list = Json::array(
        {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", Json::parse(parameters)}}}}});
    AnswerRules rules{.calls = Calls::kRequired, .form = CallForm::kXml, .tools = &list};
    const std::string n = "<parameter=n>\n12\n</parameter>\n";
    check(rules, {xml("f>\n" + n), xml("f>\n" + n + "<parameter=s>\nb\n</parameter>\n")},
          {xml("f>\n"), xml("f>\n<parameter=n>\ntwelve\n</parameter>\n"),
           xml("f>\n" + n + "<parameter=s>\nc\n</parameter>\n"),
           xml("f>\n" + n + "<parameter=t>\nb\n</parameter>\n")});
    rules.form = CallForm::kJson;
    const auto call = [](const std::string& arguments) {
      return "<tool_call>\n{\"name\": \"f\", \"arguments\": " + arguments + "}\n</tool_call>";
    };
    check(rules, {call(R"({"n": 12})"), call(R"({"n": 12, "s": "b"})")},
          {call("{}"), call(R"({"n": "12"})"), call(R"({"n": 12, "s": "c"})")});
  }
}

TEST(AnswerGrammar, FreeCallsAreHeldToTheirGrammarFromTheirStart) {
  const Json list = tools();
  AnswerRules rules{.calls = Calls::kFree, .form = CallForm::kXml, .tools = &list};
  const std::string ping = xml("ping>\n");
  check(
      rules,
      {"", "any text", "the tag <tool_call> and </tool_call>", "\xff\xfe", ping,
       "Let me see.\n" + ping + "\n" + ping + " done", "<tool_call>" + ping,
       "<tool_call>\n\n  <function=ping>\n</function>\n</tool_call>", "<tool_call>{\"a\"}", "<function=x>"},
      {"<tool_call><function=pong>", "<tool_call>\n<function=", "a" + xml("write>\n"), ping + xml("ping>")});
  rules.form = CallForm::kJson;
  check(rules,
        {"", "{", "<tool_call>x", "a <tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call> b"},
        {"<tool_call>{", "<tool_call>\n{\"name\": \"pong\", \"arguments\": {}}\n</tool_call>"});
}

TEST(AnswerGrammar, ToolsThatAreNotSupported) {
  const Json list =
      Json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
      "properties": {"a": {"type": "integer", "multipleOf": 5}, "b": {"type": "integer"}}, "required": ["b"]}}},
    {"type": "function", "function": {"name": "g", "parameters": {"not": {}}}}])");
  AnswerRules rules{.calls = Calls::kRequired, .form = CallForm::kXml, .tools = &list};
  const auto refused = compile_answer(rules);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("tool 'f': parameters: #/properties/a: 'multipleOf'"));
  rules.calls = Calls::kFree;
  for (const CallForm form : {CallForm::kXml, CallForm::kJson}) {
    rules.form = form;
    const auto made = compile_answer(rules);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    EXPECT_THAT(made->warnings, testing::ElementsAre(HasSubstr("tool 'f'"), HasSubstr("tool 'g'")));
  }
  rules.form = CallForm::kXml;
  const std::string b = "<parameter=b>\n1\n</parameter>\n";
  check(rules,
        {xml("f>\n<parameter=a>\nanything\n</parameter>\n" + b),
         xml("g>\n<parameter=what>\never\n</parameter>\n")},
        {xml("f>\n<parameter=b>\nx\n</parameter>\n")});
}

TEST(AnswerGrammar, Thoughts) {
  const Json schema = Json::parse(R"({"type": "integer"})");
  AnswerRules rules{.thought = Thought::kOpen, .schema = &schema};
  check(rules, {"so <b> it is\n</think>\n\n12", "</think>1"}, {"12", "x</think>y", "x</think>1</think>1"});
  rules.thought = Thought::kMaybe;
  check(rules, {"12", "<think>\nx\n</think>\n\n12"}, {"x</think>12", "<think>12"});
  rules.schema = nullptr;
  rules.gbnf = "root ::= \"a\"+";
  check(rules, {"aa", "<think></think>a"}, {"b", ""});
  rules.gbnf = "root ::= root";
  EXPECT_FALSE(compile_answer(rules).has_value());
}

TEST(AnswerGrammar, JsonOrCalls) {
  const Json list = tools();
  const AnswerRules rules{.calls = Calls::kFree, .form = CallForm::kXml, .tools = &list, .json_object = true};
  check(rules, {"{}", "{\"a\": 1}", xml("ping>\n")}, {"", "text", "{}" + xml("ping>\n")});
}

}  // namespace
}  // namespace packmule::grammar
