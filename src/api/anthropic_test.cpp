#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/anthropic_request.h"
#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;

constexpr std::string_view kTools =
    R"("tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{"a":{"type":"string"}}}}])";

std::string body(std::string_view more = "") {
  return fmt::format(R"({{"model":"m","max_tokens":50,"messages":[{{"role":"user","content":"hi"}}]{}{}}})",
                     more.empty() ? "" : ",", more);
}

Json whole(Fixture& f, std::string_view more = "") {
  const auto r = f.ask("POST", "/v1/messages", body(more));
  EXPECT_EQ(r->status(), 200) << r->body();
  return r->json();
}

std::vector<Json> streamed(Fixture& f, std::string_view more = "") {
  const auto r =
      f.ask("POST", "/v1/messages", body(fmt::format(R"("stream":true{}{})", more.empty() ? "" : ",", more)));
  EXPECT_EQ(r->status(), 200) << r->body();
  const auto events = parse_sse(r->body(), false);
  EXPECT_TRUE(events.has_value()) << r->body();
  return events.value_or(std::vector<Json>());
}

/// The message that the events of a stream add up to, as clients put it together; its order is checked.
Json message_of(const std::vector<Json>& events) {
  Json message;
  std::string input;
  bool open = false, stopped = false;
  for (const Json& event : events) {
    const std::string type = event["type"];
    EXPECT_FALSE(stopped) << "behind message_stop: " << event;
    EXPECT_EQ(type == "message_start", message.is_null()) << event;
    if (type == "message_start") {
      message = event["message"];
    } else if (type == "content_block_start") {
      EXPECT_FALSE(open);
      open = true;
      EXPECT_EQ(event["index"], message["content"].size());
      message["content"].push_back(event["content_block"]);
      input.clear();
    } else if (type == "content_block_delta") {
      EXPECT_TRUE(open);
      EXPECT_EQ(event["index"], message["content"].size() - 1);
      Json& block = message["content"].back();
      const Json& delta = event["delta"];
      if (delta["type"] == "text_delta")
        block["text"].get_ref<std::string&>() += delta["text"].get_ref<const std::string&>();
      else if (delta["type"] == "thinking_delta")
        block["thinking"].get_ref<std::string&>() += delta["thinking"].get_ref<const std::string&>();
      else if (delta["type"] == "input_json_delta")
        input += delta["partial_json"].get_ref<const std::string&>();
      else
        EXPECT_EQ(delta.dump(), R"({"type":"signature_delta","signature":""})");
    } else if (type == "content_block_stop") {
      EXPECT_TRUE(open);
      open = false;
      if (!input.empty()) message["content"].back()["input"] = Json::parse(input);
    } else if (type == "message_delta") {
      EXPECT_FALSE(open);
      message.update(event["delta"]);
      message["usage"] = event["usage"];
    } else if (type == "message_stop") {
      stopped = true;
    } else {
      EXPECT_EQ(type, "ping");
    }
  }
  EXPECT_TRUE(stopped);
  return message;
}

/// Ids are drawn anew for each answer.
Json without_ids(Json message) {
  message.erase("id");
  for (Json& block : message["content"]) block.erase("id");
  return message;
}

TEST(Anthropic, AnswersWhole) {
  Fixture f;
  const Json json = whole(f, R"("system":"be brief","temperature":0.5,"metadata":{"user_id":"x"})");
  EXPECT_TRUE(json["id"].get_ref<const std::string&>().starts_with("msg_"));
  EXPECT_EQ(json["content"].dump(), R"([{"type":"text","text":"Hello world"}])");
  EXPECT_EQ(json["stop_reason"], "end_turn");
  EXPECT_EQ(json["stop_sequence"], nullptr);
  const auto n_prompt = static_cast<int>(f.backend->last_request.prompt.size());
  EXPECT_EQ(json["usage"].dump(),
            fmt::format(R"({{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":2,)"
                        R"("output_tokens":3}})",
                        n_prompt - 2));
  EXPECT_EQ(f.backend->last_messages.dump(),
            R"([{"role":"system","content":"be brief"},{"role":"user","content":"hi"}])");
  EXPECT_EQ(f.backend->last_request.max_tokens, 50);
  EXPECT_EQ(f.backend->last_request.sampling.temperature, 0.5f);
}

TEST(Anthropic, StreamedIsTheSame) {
  Fixture f;
  const std::vector<std::vector<std::string>> answers = {
      {"Hel", "lo"},
      {},
      {"<think>hm", "m</think>", "so"},
      {"I call.\n<tool_call>\n<function=f>\n<parameter=a>\n", "x\n</parameter>\n</function>\n</tool_call>"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": {\"a\"", ": \"y\"}}</tool_call>",
       "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"},
  };
  for (const auto& pieces : answers) {
    f.backend->pieces = pieces;
    const Json one = whole(f, kTools);
    EXPECT_EQ(without_ids(message_of(streamed(f, kTools))), without_ids(one));
  }
  EXPECT_EQ(whole(f, kTools)["stop_reason"], "tool_use");
  EXPECT_EQ(whole(f, kTools)["content"][0]["input"].dump(), R"({"a":"y"})");
  EXPECT_EQ(whole(f, kTools)["content"][1]["input"].dump(), "{}");
  EXPECT_EQ(whole(f, std::string(kTools) +
                         R"(,"tool_choice":{"type":"auto","disable_parallel_tool_use":true})")["content"]
                .size(),
            1u);
}

TEST(Anthropic, SaysWhyItStopped) {
  Fixture f;
  f.backend->reason = engine::FinishReason::kLength;
  EXPECT_EQ(whole(f)["stop_reason"], "max_tokens");
  f.backend->reason = engine::FinishReason::kStopString;
  const Json json = whole(f, R"("stop_sequences":["x"])");
  EXPECT_EQ(json["stop_reason"], "stop_sequence");
  EXPECT_EQ(json["stop_sequence"], "x");
  EXPECT_EQ(f.backend->last_request.stop, (std::vector<std::string>{"x"}));
  // What is there of a call that was cut off is handed on, though it is no object.
  f.backend->reason = engine::FinishReason::kLength;
  f.backend->pieces = {R"(<tool_call>{"name": "f", "arguments": {"a": "x)"};
  EXPECT_EQ(whole(f, kTools)["content"][0]["input"].dump(), R"({"raw_arguments":"{\"a\": \"x"})");
}

TEST(Anthropic, BringsMessagesIntoTheFormOfTemplates) {
  const auto chat = chat_from_anthropic(Json::parse(R"({
    "system": [{"type":"text","text":"x-anthropic-billing-header: cch=1a2b;"},
               {"type":"text","text":"one","cache_control":{"type":"ephemeral"}}, {"type":"text","text":"two"}],
    "messages": [
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"assistant","content":[
        {"type":"thinking","thinking":"hm","signature":"s"}, {"type":"redacted_thinking","data":"?"},
        {"type":"text","text":"c"},
        {"type":"tool_use","id":"t1","name":"f","input":{"x":[1,"y"],"z":{}}}]},
      {"role":"user","content":[
        {"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"r"}],"is_error":true},
        {"type":"tool_result","tool_use_id":"t2"},
        {"type":"text","text":"d"}]},
      {"role":"assistant","content":"e"}],
    "tools": [{"type":"custom","name":"f","input_schema":{"type":"object"}}],
    "tool_choice": {"type":"tool","name":"f","disable_parallel_tool_use":true},
    "thinking": {"type":"enabled","budget_tokens":1024},
    "output_config": {"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}}},
    "stop_sequences": ["q"], "top_k": 5, "max_tokens": 9, "stream": true})"));
  ASSERT_TRUE(chat) << chat.error().message;
  EXPECT_EQ((*chat)["messages"].dump(),
            R"([{"role":"system","content":"one\ntwo"},{"role":"user","content":"a\nb"},)"
            R"({"role":"assistant","content":"c","reasoning_content":"hm","tool_calls":[{"id":"t1",)"
            R"("type":"function","function":{"name":"f","arguments":"{\"x\": [1, \"y\"], \"z\": {}}"}}]},)"
            R"({"role":"tool","tool_call_id":"t1","content":"r"},)"
            R"({"role":"tool","tool_call_id":"t2","content":""},{"role":"user","content":"d"},)"
            R"({"role":"assistant","content":"e"}])");
  Json rest = *chat;
  rest.erase("messages");
  EXPECT_EQ(rest, Json::parse(R"({"max_tokens":9,"top_k":5,"stream":true,"stop":["q"],
    "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],
    "tool_choice":{"type":"function","function":{"name":"f"}}, "parallel_tool_calls":false,
    "chat_template_kwargs":{"enable_thinking":true},
    "response_format":{"type":"json_schema",
                       "json_schema":{"name":"output","strict":true,"schema":{"type":"object"}}}})"));
}

TEST(Anthropic, CountsTokens) {
  Fixture f;
  const std::string same = fmt::format(R"("system":"s",{})", kTools);
  (void)whole(f, same);
  const auto r = f.ask("POST", "/v1/messages/count_tokens", body(same));
  EXPECT_EQ(r->json().dump(), fmt::format(R"({{"input_tokens":{}}})", f.backend->last_request.prompt.size()));
  EXPECT_EQ(f.backend->n_generated, 1);
}

TEST(Anthropic, TellsOfErrorsInItsOwnForm) {
  Fixture f({.api_keys = {"secret"}});
  const auto expect = [](FakeResponder& r, int status, std::string_view type, std::string_view words) {
    EXPECT_EQ(r.status(), status);
    const Json json = r.json();
    EXPECT_EQ(json["type"], "error") << r.body();
    EXPECT_EQ(json["error"]["type"], type) << r.body();
    EXPECT_THAT(json["error"]["message"].get<std::string>(), HasSubstr(words));
  };
  const Headers key = {{"x-api-key", "secret"}, {"anthropic-version", "2023-06-01"}};
  expect(*f.ask("POST", "/v1/messages", body()), 401, "authentication_error", "key");
  expect(*f.ask("GET", "/v1/messages", "", key), 405, "invalid_request_error", "POST");
  expect(*f.ask("POST", "/v1/messages", "{", key), 400, "invalid_request_error", "the request body");
  const struct {
    std::string_view fields, words;
  } cases[] = {
      {R"("messages":[])", "messages"},
      {R"("messages":[{"role":"tool","content":"x"}])", "messages[0].role"},
      {R"("messages":[{"role":"user"}])", "messages[0].content"},
      {R"("messages":[{"role":"user","content":[{"type":"image"}]}])", "image"},
      {R"("messages":[{"role":"user","content":[{"type":"tool_result"}]}])", "tool_use_id"},
      {R"("messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"image"}]}]}])",
       "messages[0].content[0].content[0].type"},
      {R"("messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":"x"}]}])",
       "input"},
      {R"("system":5)", "system"},
      {R"("system":[{"type":"image"}])", "system[0].type"},
      {R"("tools":[{"type":"web_search_20250305","name":"web_search"}])", "web_search_20250305"},
      {R"("tools":[{"name":"f"}])", "tools[0].input_schema"},
      {R"("tool_choice":{"type":"sometimes"})", "tool_choice.type"},
      {R"("thinking":{"type":"loud"})", "thinking.type"},
      {R"("stop_sequences":"x")", "stop_sequences"},
      {R"("mcp_servers":[{"url":"x"}])", "mcp_servers"},
      {R"("temperature":"hot")", "temperature"},
      {R"("output_config":{"format":{"type":"xml"}})", "output_config.format"},
  };
  for (const auto& c : cases)  // the later of two fields of the same name counts
    expect(*f.ask("POST", "/v1/messages", body(c.fields), key), 400, "invalid_request_error", c.words);
  expect(*f.ask("POST", "/v1/messages", R"({"messages":[{"role":"user","content":"hi"}]})", key), 400,
         "invalid_request_error", "max_tokens");
  f.backend->generate_error = Error{ErrorKind::kInternal, "it broke"};
  expect(*f.ask("POST", "/v1/messages", body(), key), 500, "api_error", "it broke");
  f.backend->generate_error.reset();
  f.backend->generate_late_error = Error{ErrorKind::kInternal, "it broke"};
  const auto r = f.ask("POST", "/v1/messages", body(R"("stream":true)"), key);
  const auto events = parse_sse(r->body(), false);
  ASSERT_TRUE(events) << r->body();
  EXPECT_EQ(events->back().dump(), R"({"type":"error","error":{"type":"api_error","message":"it broke"}})");
}

TEST(Anthropic, PathsAndLimitsBelowItsOwnAreToldInItsFormToo) {
  ServiceOptions options;
  options.max_preparing = 0;
  Fixture f(std::move(options));
  const auto type = [](const std::shared_ptr<FakeResponder>& r, int status) {
    EXPECT_EQ(r->status(), status) << r->body();
    const Json json = r->json();
    EXPECT_EQ(json.value("type", ""), "error") << r->body();
    return json.contains("error") ? json["error"].value("type", "") : "";
  };
  EXPECT_EQ(type(f.ask("GET", "/v1/messages"), 405), "invalid_request_error");
  EXPECT_EQ(type(f.ask("POST", "/v1/messages/batches", "{}"), 404), "not_found_error");
  EXPECT_EQ(type(f.ask("POST", "/v1/messages", "{}", {{"Content-Encoding", "gzip"}}), 415),
            "invalid_request_error");
  EXPECT_EQ(type(f.ask("POST", "/v1/messages", body()), 503), "overloaded_error");
  EXPECT_EQ(type(f.ask("POST", "/v1/messages?beta=true", body()), 503), "overloaded_error");
  Fixture deep;
  EXPECT_EQ(type(deep.ask("POST", "/v1/messages", std::string(1000, '[')), 400), "invalid_request_error");
  EXPECT_EQ(error_form_of("/v1/messagesx"), ErrorForm::kOpenAi);
  EXPECT_EQ(error_form_of("/v1/chat/completions"), ErrorForm::kOpenAi);
}

}  // namespace
}  // namespace packmule::api
