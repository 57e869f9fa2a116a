// Tool calls from the request to the answer, whole and streamed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/messages.h"
#include "api/service_fixture_for_test.h"
#include "chat/messages.h"
#include "chat/template_engine.h"
#include "tests/support/test_data.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"f","parameters":{"properties":)"
    R"({"a":{"type":"string"},"n":{"type":"integer"}}}}}])";

constexpr std::string_view kXml =
    "Look:\n<tool_call>\n<function=f>\n<parameter=a>\n\xc3\xa4\n</parameter>\n<parameter=n>\n3\n</"
    "parameter>\n"
    "</function>\n</tool_call>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}\n</tool_call>";

std::vector<std::string> pieces_of(std::string_view text, size_t n_bytes) {
  std::vector<std::string> out;
  for (; !text.empty(); text.remove_prefix(std::min(n_bytes, text.size())))
    out.emplace_back(text.substr(0, n_bytes));
  return out;
}

struct Message {
  std::string content, reasoning, finish_reason;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  std::vector<std::string> ids;
};

Message whole_message(const Json& json) {
  const Json& choice = json.at("choices").at(0);
  const Json& message = choice.at("message");
  Message out{.content = message.at("content").is_null() ? "" : message.at("content").get<std::string>(),
              .reasoning = message.value("reasoning_content", ""),
              .finish_reason = choice.at("finish_reason")};
  // No content is said as null, but only beside calls.
  EXPECT_EQ(message.at("content").is_null(), out.content.empty() && message.contains("tool_calls"));
  for (const Json& call : message.value("tool_calls", Json::array())) {
    EXPECT_EQ(call.at("type"), "function");
    out.calls.emplace_back(call.at("function").at("name"), call.at("function").at("arguments"));
    out.ids.push_back(call.at("id"));
  }
  return out;
}

/// Puts a stream together as OpenAI's clients do.
Message streamed_message(std::string_view body) {
  Message out;
  const auto events = parse_sse(body);
  if (!events) throw std::runtime_error("not a stream: " + std::string(body));
  for (const Json& event : *events) {
    const Json& choice = event.at("choices").at(0);
    const Json& delta = choice.at("delta");
    out.content += delta.value("content", "");
    out.reasoning += delta.value("reasoning_content", "");
    if (!choice.at("finish_reason").is_null()) out.finish_reason = choice.at("finish_reason");
    for (const Json& call : delta.value("tool_calls", Json::array())) {
      const size_t index = call.at("index");
      if (call.contains("id")) {
        EXPECT_EQ(index, out.calls.size());
        EXPECT_EQ(call.at("type"), "function");
        out.ids.push_back(call.at("id"));
        out.calls.emplace_back(call.at("function").at("name"), "");
      }
      EXPECT_EQ(index + 1, out.calls.size());
      out.calls.at(index).second += call.at("function").at("arguments").get<std::string>();
    }
  }
  return out;
}

/// Asks twice, once for a stream, and expects the same.
Message ask_both(Fixture& f, const std::string& more) {
  const auto whole = f.chat(more);
  EXPECT_EQ(whole->status(), 200) << whole->body();
  Message message = whole_message(whole->json());
  const Message streamed = streamed_message(f.chat(more + R"(,"stream":true)")->body());
  EXPECT_EQ(streamed.content, message.content);
  EXPECT_EQ(streamed.reasoning, message.reasoning);
  EXPECT_EQ(streamed.finish_reason, message.finish_reason);
  EXPECT_EQ(streamed.calls, message.calls);
  return message;
}

TEST(ToolCalls, AreGivenInOpenAisForm) {
  for (const size_t n_bytes : {1, 5, 1000}) {
    Fixture f;
    f.backend->pieces = pieces_of(kXml, n_bytes);
    const Message message = ask_both(f, std::string(kTools));
    EXPECT_EQ(message.content, "Look:");
    EXPECT_EQ(message.finish_reason, "tool_calls");
    ASSERT_EQ(message.calls.size(), 2u);
    EXPECT_EQ(message.calls[0], std::pair(std::string("f"), std::string("{\"a\": \"\xc3\xa4\", \"n\": 3}")));
    EXPECT_EQ(message.calls[1], std::pair(std::string("f"), std::string("{\"a\": \"x\"}")));
    for (const std::string& id : message.ids) EXPECT_THAT(id, MatchesRegex("call_[0-9A-Za-z]+"));
    EXPECT_NE(message.ids[0], message.ids[1]);
  }
}

TEST(ToolCalls, EndAThoughtThatIsNotClosed) {
  Fixture f;
  f.backend->opening = "<think>\n";
  f.backend->pieces = {"hm\n", "<tool_call>\n<function=f>\n</function>\n</tool_call>"};
  Message message = ask_both(f, std::string(kTools));
  EXPECT_EQ(message.reasoning, "hm");
  EXPECT_EQ(message.content, "");
  EXPECT_EQ(message.calls.size(), 1u);
  // Without tools the thought goes on.
  message = ask_both(f, R"("seed":1)");
  EXPECT_EQ(message.reasoning, "hm\n<tool_call>\n<function=f>\n</function>\n</tool_call>");
  EXPECT_EQ(message.finish_reason, "stop");
  // Thoughts that are not split off are text, and calls behind them are calls.
  message = ask_both(f, std::string(kTools) + R"(,"reasoning_format":"none")");
  EXPECT_EQ(message.content, "hm");
  EXPECT_EQ(message.calls.size(), 1u);
}

TEST(ToolCalls, AreNotLookedForWithoutTools) {
  Fixture f;
  f.backend->pieces = pieces_of(kXml, 7);
  for (const std::string& more : {std::string(R"("seed":1)"), std::string(R"("tools":[])"),
                                  std::string(kTools) + R"(,"tool_choice":"none")"}) {
    const Message message = ask_both(f, more);
    EXPECT_EQ(message.content, kXml);
    EXPECT_EQ(message.finish_reason, "stop");
    EXPECT_TRUE(f.backend->last_tools.is_null());
  }
  // Nor where the template does not say how tools are called.
  f.backend->tool_calls = false;
  EXPECT_EQ(ask_both(f, std::string(kTools)).content, kXml);
}

TEST(ToolCalls, AreNotLostWhenTheAnswerIsCutAnywhere) {
  for (size_t size = 0; size <= kXml.size(); ++size) {
    Fixture f;
    f.backend->reason = engine::FinishReason::kLength;
    f.backend->pieces = pieces_of(kXml.substr(0, size), 3);
    const Message message = ask_both(f, std::string(kTools));
    EXPECT_EQ(message.finish_reason, "length");
    const size_t first = kXml.find("<function=f>"), second = kXml.find("{\"a\": \"x\"");
    const size_t n_expected = size_t{size >= first + 12} + size_t{size > second};
    EXPECT_EQ(message.calls.size(), n_expected) << kXml.substr(0, size);
    if (size >= first + 12 && size < second) {
      EXPECT_TRUE(Json::accept(message.calls[0].second)) << message.calls[0].second;
    }
    if (size >= 6 && size < first) {
      EXPECT_TRUE(message.content.starts_with("Look:"));
    }
  }
}

TEST(ToolCalls, SayHowTheAnswerEnded) {
  Fixture f;
  f.backend->reason = engine::FinishReason::kStopString;
  f.backend->pieces = {"<tool_call><function=f><parameter=a>x"};
  Message message = ask_both(f, std::string(kTools));
  EXPECT_EQ(message.finish_reason, "stop");  // what is there of the call is given, but not for use
  EXPECT_EQ(message.calls.at(0).second, "{\"a\": \"x\"}");
  f.backend->pieces = {"<tool_call><function=f></function>"};
  EXPECT_EQ(ask_both(f, std::string(kTools)).finish_reason, "tool_calls");
  f.backend->reason = engine::FinishReason::kEndOfTurn;
  f.backend->pieces = {"<tool_call>{'name': 'f'}</tool_call>"};
  message = ask_both(f, std::string(kTools));
  EXPECT_EQ(message.finish_reason, "stop");
  EXPECT_EQ(message.content, f.backend->pieces[0]);
}

TEST(ToolCalls, EndWithTheFirstIfOnlyOneIsWanted) {
  Fixture f;
  f.backend->pieces = pieces_of(kXml, 9);
  f.backend->block_until_stop = true;  // a model that would go on
  const Message message = ask_both(f, std::string(kTools) + R"(,"parallel_tool_calls":false)");
  EXPECT_EQ(message.calls.size(), 1u);
  EXPECT_EQ(message.content, "Look:");
  EXPECT_EQ(message.finish_reason, "tool_calls");
}

TEST(ToolCalls, WarnInTheLogWithoutWordsOfTheModel) {
  std::vector<std::string> log;
  Fixture f({.log = [&](const std::string& line) { log.push_back(line); }});
  f.backend->pieces = {"<tool_call>{'secret': 1}", "<tool_call>{'secret': 2}"};
  EXPECT_EQ(f.chat(kTools)->status(), 200);
  ASSERT_EQ(log.size(), 2u);
  EXPECT_THAT(log[1], HasSubstr("warning: the start of a tool call that is none"));
  EXPECT_THAT(log[1], testing::Not(HasSubstr("secret")));
}

TEST(ToolCalls, GoBackToTheTemplateWithTheirAnswers) {
  Fixture f;
  f.backend->object_arguments = true;
  f.backend->pieces = pieces_of(kXml, 9);
  const Json answer = f.chat(kTools)->json()["choices"][0]["message"];
  Json messages = Json::array({{{"role", "user"}, {"content", "hi"}}, answer});
  messages.push_back(
      {{"role", "tool"}, {"tool_call_id", answer["tool_calls"][0]["id"]}, {"content", "done"}});
  const Json body = {{"messages", messages}};
  EXPECT_EQ(f.ask("POST", "/apply-template", body.dump())->json()["prompt"],
            "user:hi\nassistant:Look:{\"a\":\"\xc3\xa4\",\"n\":3}{\"a\":\"x\"}\ntool:done\nassistant:");
}

TEST(ToolCalls, AreKnownToTemplatesThatWriteThem) {
  const auto by_dump = [](const Json& messages) -> Result<std::string> { return messages.dump(); };
  const auto by_tag = [](const Json& messages) -> Result<std::string> {
    if (!messages[1]["tool_calls"][0]["function"]["arguments"].is_object())
      return tl::unexpected(Error{ErrorKind::kInvalidArgument, "Can only get item pairs from a mapping."});
    return "<tool_call>\n<function=probe>";
  };
  EXPECT_FALSE(writes_tool_calls(by_dump));
  const auto by_nothing = [](const Json&) -> Result<std::string> {
    return tl::unexpected(Error{ErrorKind::kInvalidArgument, "no user query found"});
  };
  EXPECT_TRUE(writes_tool_calls(by_tag));
  EXPECT_TRUE(writes_tool_calls(by_nothing));
}

TEST(ToolCalls, AreKnownToThePublishedTemplates) {
  const auto written_by = [](std::string_view source) {
    const auto engine = chat::TemplateEngine::create(source);
    if (!engine) throw std::runtime_error(engine.error().message);
    return writes_tool_calls(
        [&](const Json& messages) { return (*engine)->render(messages, nullptr, Json::object()); });
  };
  EXPECT_FALSE(written_by(chat::kChatMlTemplate));
  for (const char* name : {"Qwen3-Next-80B-A3B-Instruct.jinja", "Qwen3-Next-80B-A3B-Thinking.jinja",
                           "Qwen3-Coder.jinja", "Qwen3-Coder-functions.jinja", "Qwen3-Coder-early.jinja",
                           "Qwen3.jinja", "Qwen3.5.jinja", "Qwen3.6.jinja"})
    if (const auto path = testing_support::find_template(name)) {
      EXPECT_TRUE(written_by(testing_support::read_file(*path))) << name;
    }
}

}  // namespace
}  // namespace packmule::api
