// From the fields of a request to the constraint of its generation.
#include "api/output_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/chat_request.h"
#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;

constexpr std::string_view kTools =
    R"(,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"n":)"
    R"({"type":"integer"}},"required":["n"]}}},{"type":"function","function":{"name":"g"}}])";
constexpr std::string_view kCall =
    "<tool_call>\n<function=f>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>";

/// Whether an answer to a request with these fields could be this text.
struct Answers {
  std::shared_ptr<FakeResponder> responder;
  sampling::ConstraintFactory constraint;

  [[nodiscard]] bool allows(std::string_view text) const {
    const auto state = constraint();
    for (const char c : text)
      if (!state->accept(static_cast<unsigned char>(c))) return false;
    return state->may_end();
  }
};

Answers ask(std::string_view fields, const std::function<void(FakeBackend&)>& change = {}) {
  Fixture fixture;
  if (change) change(*fixture.backend);
  Answers out;
  out.responder = fixture.chat(fields);
  out.constraint = fixture.backend->last_request.constraint;
  return out;
}

TEST(OutputGrammar, ResponseFormats) {
  EXPECT_EQ(ask("").constraint, nullptr);
  EXPECT_EQ(ask(R"("response_format":{"type":"text"})").constraint, nullptr);
  const Answers object = ask(R"("response_format":{"type":"json_object"})");
  ASSERT_NE(object.constraint, nullptr);
  EXPECT_TRUE(object.allows(R"({"a": [1, null]})"));
  EXPECT_FALSE(object.allows("[1]"));
  for (
      const char* fields :
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"enum":["a",2]}}})",
       R"("response_format":{"type":"json_object","schema":{"enum":["a",2]}})",
       R"("json_schema":{"enum":["a",2]})", R"gr("grammar":"root ::= \"\\\"a\\\"\" | \"2\"")gr"}) {
    const Answers answers = ask(fields);
    ASSERT_NE(answers.constraint, nullptr) << fields;
    EXPECT_TRUE(answers.allows("\"a\"") && answers.allows("2")) << fields;
    EXPECT_FALSE(answers.allows("\"b\"") || answers.allows("")) << fields;
  }
}

TEST(OutputGrammar, ThoughtsComeFirst) {
  const Answers open =
      ask(R"("json_schema":{"type":"integer"})", [](FakeBackend& b) { b.opening = "<think>\n"; });
  EXPECT_TRUE(open.allows("let me see</think>\n\n7"));
  EXPECT_FALSE(open.allows("7"));
}

TEST(OutputGrammar, ToolChoice) {
  const Answers any = ask(std::string(R"("tool_choice":"required")") + std::string(kTools));
  ASSERT_NE(any.constraint, nullptr);
  EXPECT_TRUE(any.allows(kCall));
  EXPECT_TRUE(any.allows(std::string(kCall) + "\n" + std::string(kCall)));
  EXPECT_FALSE(any.allows("text"));
  const Answers one =
      ask(std::string(R"("parallel_tool_calls":false,"tool_choice":"required")") + std::string(kTools));
  EXPECT_FALSE(one.allows(std::string(kCall) + "\n" + std::string(kCall)));
  const Answers named =
      ask(std::string(R"("tool_choice":{"type":"function","function":{"name":"g"}})") + std::string(kTools));
  EXPECT_FALSE(named.allows(kCall));
  EXPECT_TRUE(named.allows("<tool_call>\n<function=g>\n</function>\n</tool_call>"));
  const std::string call_g = "<tool_call>\n<function=g>\n</function>\n</tool_call>";
  for (const bool required : {false, true}) {
    const Answers allowed =
        ask(fmt::format(R"("tool_choice":{{"type":"allowed_tools","allowed_tools":{{"mode":"{}","tools":[)"
                        R"({{"type":"function","function":{{"name":"g"}}}}]}}}}{})",
                        required ? "required" : "auto", kTools));
    EXPECT_TRUE(allowed.allows(call_g));
    EXPECT_FALSE(allowed.allows(kCall));
    EXPECT_EQ(allowed.allows("text " + call_g), !required);
  }
  const Answers free = ask(kTools.substr(1));
  ASSERT_NE(free.constraint, nullptr);
  EXPECT_TRUE(free.allows("text") && free.allows("text " + std::string(kCall)));
  EXPECT_FALSE(free.allows("<tool_call>\n<function=f>\n</function>\n</tool_call>"));
  EXPECT_EQ(ask(std::string(R"("tool_choice":"none")") + std::string(kTools)).constraint, nullptr);
  EXPECT_EQ(ask(kTools.substr(1), [](FakeBackend& b) { b.tool_calls = false; }).constraint, nullptr);
}

TEST(OutputGrammar, RefusesWithTheReason) {
  const struct {
    std::string fields;
    const char *param, *message;
  } cases[] = {
      {R"("response_format":{"type":"xml"})", "response_format", "\"json_schema\""},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format", "expected"},
      {R"("json_schema":{"items":{"not":{}}})", "json_schema", "#/items: 'not' is not supported"},
      {R"("json_schema":{},"grammar":"root ::= \"a\"")", "response_format", "only one"},
      {R"("grammar":"root ::= \"a")", "grammar", "line 1"},
      {R"("tool_choice":"required")", "tool_choice", "no tools"},
      {R"("tool_choice":"maybe")", "tool_choice", "expected"},
      {R"("tool_choice":{"type":"function","function":{"name":"h"}})" + std::string(kTools), "tool_choice",
       "not among"},
      {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"function":{"name":"h"}}]}})" +
           std::string(kTools),
       "tool_choice", "not among"},
      {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}})" +
           std::string(kTools),
       "tool_choice.allowed_tools", "at least one"},
      {R"("tool_choice":{"type":"allowed_tools"})" + std::string(kTools), "tool_choice.allowed_tools",
       "mode"},
      {R"("tool_choice":"required","json_schema":{})" + std::string(kTools), "tool_choice", "another form"},
      {R"("tool_choice":"required","tools":[{"type":"function","function":{"name":"f","parameters":{"not":{}}}}])",
       "tools", "'not' is not supported"},
  };
  for (const auto& c : cases) {
    const Answers answers = ask(c.fields);
    EXPECT_EQ(answers.responder->status(), 400) << c.fields;
    const Json error = answers.responder->json().at("error");
    EXPECT_EQ(error.at("param"), c.param) << c.fields;
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr(c.message)) << c.fields;
  }
}

TEST(OutputGrammar, ToolsThatAreNotSupportedAreStillOffered) {
  std::vector<std::string> lines;
  Fixture fixture({.log = [&](const std::string& line) { lines.push_back(line); }});
  EXPECT_EQ(
      fixture
          .chat(
              R"("tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":)"
              R"("integer","multipleOf":2}}}}}])")
          ->status(),
      200);
  EXPECT_THAT(lines,
              testing::Contains(HasSubstr("1 schemas of tools or their parameters are not supported")));
}

TEST(OutputGrammar, GrammarsAreKept) {
  std::vector<std::string> tokens;
  for (int i = 0; i < 256; ++i) tokens.emplace_back(1, static_cast<char>(i));
  OutputGrammars grammars(std::make_shared<const grammar::Vocabulary>(tokens, std::vector<int32_t>{}));
  OutputForm form;
  form.gbnf = "root ::= \"a\"";
  const auto first = grammars.get(form, nullptr, true, {});
  const auto again = grammars.get(form, nullptr, true, {});
  EXPECT_EQ(first->grammar, again->grammar);
  form.gbnf = "root ::= \"b\"";
  EXPECT_NE(grammars.get(form, nullptr, true, {})->grammar, first->grammar);
}

}  // namespace
}  // namespace packmule::api
