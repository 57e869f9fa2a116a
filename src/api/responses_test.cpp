#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/responses_request.h"
#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"web_search"}])";

std::string body(std::string_view more = "") {
  return fmt::format(R"({{"model":"m","input":"hi"{}{}}})", more.empty() ? "" : ",", more);
}

Json whole(Fixture& f, std::string_view more = "") {
  const auto r = f.ask("POST", "/v1/responses", body(more));
  EXPECT_EQ(r->status(), 200) << r->body();
  return r->json();
}

std::vector<Json> streamed(Fixture& f, std::string_view more = "") {
  const auto r = f.ask("POST", "/v1/responses",
                       body(fmt::format(R"("stream":true{}{})", more.empty() ? "" : ",", more)));
  EXPECT_EQ(r->status(), 200) << r->body();
  const auto events = parse_sse(r->body(), false);
  EXPECT_TRUE(events.has_value()) << r->body();
  return events.value_or(std::vector<Json>());
}

/// Puts the output together from the deltas, checks that what the other events say of it agrees, and returns
/// the response of the last event.
Json response_of(const std::vector<Json>& events) {
  Json output = Json::array();
  for (size_t i = 0; i < events.size(); ++i) {
    const Json& event = events[i];
    const std::string type = event["type"];
    EXPECT_EQ(event["sequence_number"], i);
    if (type == "response.output_item.added") {
      EXPECT_EQ(event["output_index"], output.size());
      output.push_back(event["item"]);
      continue;
    }
    if (!event.contains("output_index")) continue;
    EXPECT_EQ(event["output_index"], output.size() - 1);
    Json& item = output.back();
    if (event.contains("item_id")) {
      EXPECT_EQ(event["item_id"], item["id"]);
    }
    if (type == "response.content_part.added") {
      item["content"].push_back(event["part"]);
    } else if (type == "response.function_call_arguments.delta") {
      item["arguments"].get_ref<std::string&>() += event["delta"].get_ref<const std::string&>();
    } else if (type.ends_with(".delta")) {
      EXPECT_EQ(event["content_index"], 0);
      item["content"][0]["text"].get_ref<std::string&>() += event["delta"].get_ref<const std::string&>();
      for (const Json& token : event.value("logprobs", Json::array()))
        item["content"][0]["logprobs"].push_back(token);
    } else if (type == "response.content_part.done") {
      EXPECT_EQ(event["part"], item["content"][0]);
    } else if (type == "response.output_item.done") {
      item["status"] = event["item"]["status"];
      EXPECT_EQ(event["item"], item);
    } else {
      EXPECT_EQ(event.contains("text") ? event["text"] : event["arguments"],
                event.contains("text") ? item["content"][0]["text"] : item["arguments"]);
    }
  }
  EXPECT_EQ(events.back()["response"]["output"], output);
  return events.back()["response"];
}

/// Ids and times are another answer's.
Json without_ids(Json response) {
  response.erase("id");
  response.erase("created_at");
  for (Json& item : response["output"]) {
    item.erase("id");
    item.erase("call_id");
  }
  return response;
}

TEST(Responses, AnswersWhole) {
  Fixture f;
  const Json json =
      whole(f, R"("instructions":"be brief","max_output_tokens":9,"metadata":{"k":"v"},"store":true)");
  EXPECT_TRUE(json["id"].get_ref<const std::string&>().starts_with("resp_"));
  EXPECT_EQ(json["status"], "completed");
  ASSERT_EQ(json["output"].size(), 1u);
  EXPECT_EQ(json["output"][0]["content"].dump(),
            R"([{"type":"output_text","text":"Hello world","annotations":[],"logprobs":[]}])");
  EXPECT_EQ(json["instructions"], "be brief");
  EXPECT_EQ(json["metadata"]["k"], "v");
  EXPECT_EQ(json["store"], false);
  EXPECT_EQ(json["usage"]["output_tokens"], 3);
  EXPECT_EQ(json["usage"]["input_tokens_details"]["cached_tokens"], 2);
  EXPECT_EQ(f.backend->last_request.max_tokens, 9);
  EXPECT_EQ(f.backend->last_messages.dump(),
            R"([{"role":"system","content":"be brief"},{"role":"user","content":"hi"}])");
}

TEST(Responses, StreamedIsTheSame) {
  Fixture f;
  const std::vector<std::vector<std::string>> answers = {
      {"Hel", "lo"},
      {},
      {"<think>hm", "m</think>", "so"},
      {"I call.\n<tool_call>\n<function=f>\n<parameter=a>\n", "x\n</parameter>\n</function>\n</tool_call>"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": {\"a\"", ": \"y\"}}</tool_call>",
       "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"},
  };
  for (const auto reason : {engine::FinishReason::kEndOfTurn, engine::FinishReason::kLength})
    for (const auto& pieces : answers) {
      f.backend->pieces = pieces;
      f.backend->reason = reason;
      const auto events = streamed(f, kTools);
      EXPECT_EQ(events[0]["type"], "response.created");
      EXPECT_EQ(events[1]["type"], "response.in_progress");
      const bool cut = reason == engine::FinishReason::kLength;
      EXPECT_EQ(events.back()["type"], cut ? "response.incomplete" : "response.completed");
      EXPECT_EQ(without_ids(response_of(events)), without_ids(whole(f, kTools)));
    }
  EXPECT_EQ(f.backend->last_tools.dump(),
            R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])")
      << "the model is not told of tools it cannot have";
}

TEST(Responses, TellsLogProbabilitiesOfTexts) {
  Fixture f;
  // Those of thoughts and calls have no place here, those behind the last text belong to it.
  f.backend->pieces = {"<think>", "hm</think>", "so", " it", ""};
  const char* fields = R"("include":["message.output_text.logprobs"],"top_logprobs":1)";
  const Json json = whole(f, fields);
  ASSERT_EQ(json["output"].size(), 2u) << json;
  const Json logprobs = json["output"][1]["content"][0]["logprobs"];
  ASSERT_EQ(logprobs.size(), 3u) << json;
  EXPECT_EQ(logprobs[0].dump(), R"({"id":1,"token":"\u0001","bytes":[1],"logprob":-0.5,)"
                                R"("top_logprobs":[{"id":1,"token":"\u0001","bytes":[1],"logprob":-0.5}]})");
  Json deltas = Json::array();
  const auto events = streamed(f, fields);
  for (const Json& event : events) {
    if (event["type"] == "response.output_text.delta")
      for (const Json& token : event["logprobs"]) deltas.push_back(token);
    if (event["type"] == "response.output_text.done") {
      EXPECT_EQ(event["logprobs"], logprobs);
    }
  }
  EXPECT_EQ(deltas, logprobs);
  EXPECT_EQ(without_ids(response_of(events)), without_ids(json));
  f.backend->pieces = {"<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", ""};
  EXPECT_EQ(whole(f, std::string(kTools) + "," + fields)["output"].size(), 1u)
      << "no empty text behind a call";
}

TEST(Responses, ReadsTheAllowedTools) {
  Fixture f;
  const auto ask = [&](std::string_view choice) {
    return f.ask("POST", "/v1/responses", body(fmt::format("{},\"tool_choice\":{}", kTools, choice)))
        ->status();
  };
  EXPECT_EQ(
      ask(R"({"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"web_search"}]})"),
      200);
  EXPECT_TRUE(f.backend->last_request.constraint);
  EXPECT_EQ(ask(R"({"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"g"}]})"),
            400);
  EXPECT_EQ(ask(R"({"type":"allowed_tools","mode":"required","tools":[{"type":"web_search"}]})"), 400);
}

TEST(Responses, CountsTokensWithoutAnswering) {
  Fixture f;
  const Json count = f.ask("POST", "/v1/responses/input_tokens", body(kTools))->json();
  EXPECT_EQ(count["object"], "response.input_tokens");
  (void)whole(f, kTools);
  EXPECT_EQ(count["input_tokens"], f.backend->last_request.prompt.size());
  EXPECT_EQ(f.backend->n_generated, 1);
  EXPECT_EQ(f.ask("POST", "/v1/responses/input_tokens", R"({"input":5})")->status(), 400);
  EXPECT_EQ(f.ask("POST", "/v1/chat/completions/input_tokens", chat_body())->json().dump(),
            R"({"object":"response.input_tokens","input_tokens":18})");
}

TEST(Responses, TellsTheTemplateNotToThink) {
  Fixture f;
  (void)whole(f, R"("reasoning":{"effort":"none"})");
  EXPECT_EQ(f.backend->last_kwargs["enable_thinking"], false);
  (void)whole(f, R"("reasoning":{"effort":"high"})");
  EXPECT_FALSE(f.backend->last_kwargs.contains("enable_thinking"));
}

TEST(Responses, BringsItemsIntoTheFormOfTemplates) {
  const auto chat = chat_from_responses(Json::parse(R"({
    "instructions": "one",
    "input": [
      {"role":"developer","content":[{"type":"input_text","text":"two"}]},
      {"type":"message","role":"user","content":[{"type":"input_text","text":"a"}]},
      {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"b","annotations":[]}]},
      {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
      {"type":"function_call","call_id":"c2","name":"g","arguments":"{\"x\":1}"},
      {"type":"function_call_output","call_id":"c1","output":"r"},
      {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"s"}]},
      {"type":"reasoning","summary":[{"type":"summary_text","text":"so"}],"encrypted_content":"?"},
      {"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},
      {"role":"system","content":"late"}],
    "tools": [{"type":"function","name":"f","description":"d","parameters":{},"strict":true},
              {"type":"custom","name":"patch"},{"type":"web_search"}],
    "tool_choice": {"type":"function","name":"f"},
    "text": {"verbosity":"low","format":{"type":"json_schema","name":"n","schema":{"type":"object"}}},
    "parallel_tool_calls": false, "store": false, "include": ["reasoning.encrypted_content"]})"));
  ASSERT_TRUE(chat) << chat.error().message;
  EXPECT_EQ(
      (*chat)["messages"].dump(),
      R"([{"role":"system","content":"one\n\ntwo"},{"role":"user","content":"a"},)"
      R"({"role":"assistant","content":"b","reasoning_content":"hm","tool_calls":[)"
      R"({"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},)"
      R"({"id":"c2","type":"function","function":{"name":"g","arguments":"{\"x\":1}"}}]},)"
      R"({"role":"tool","tool_call_id":"c1","content":"r"},{"role":"tool","tool_call_id":"c2","content":"s"},)"
      R"({"role":"assistant","content":"no","reasoning_content":"so"},{"role":"system","content":"late"}])");
  Json rest = *chat;
  rest.erase("messages");
  EXPECT_EQ(rest, Json::parse(R"({"parallel_tool_calls":false,
    "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{},"strict":true}}],
    "tool_choice":{"type":"function","function":{"name":"f"}},
    "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}})"));
}

TEST(Responses, OffersTheFunctionsOfNamespaces) {
  constexpr std::string_view kSpaced =
      R"("tools":[{"type":"namespace","name":"mcp__w","description":"d","tools":[)"
      R"({"type":"function","name":"get","parameters":{"type":"object"}},{"type":"custom","name":"x"}]},)"
      R"({"type":"function","name":"f"}])";
  Fixture f;
  f.backend->pieces = {R"(<tool_call>{"name": "mcp__w__get", "arguments": {}}</tool_call>)",
                       R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)"};
  const Json json = whole(f, kSpaced);
  EXPECT_EQ(f.backend->last_tools.dump(),
            R"([{"type":"function","function":{"name":"mcp__w__get","parameters":{"type":"object"}}},)"
            R"({"type":"function","function":{"name":"f"}}])");
  ASSERT_EQ(json["output"].size(), 2u);
  EXPECT_EQ(json["output"][0]["name"], "get");
  EXPECT_EQ(json["output"][0]["namespace"], "mcp__w");
  EXPECT_EQ(json["output"][1]["name"], "f");
  EXPECT_FALSE(json["output"][1].contains("namespace"));
  EXPECT_EQ(without_ids(response_of(streamed(f, kSpaced))), without_ids(json));

  const auto chat = chat_from_responses(Json::parse(R"({
    "input": [{"role":"user","content":"a"},
      {"type":"function_call","call_id":"c","namespace":"mcp__w__","name":"get","arguments":"{}"}],
    "tool_choice": {"type":"function","namespace":"mcp__w","name":"get"}})"));
  ASSERT_TRUE(chat) << chat.error().message;
  EXPECT_EQ((*chat)["messages"][1]["tool_calls"][0]["function"]["name"], "mcp__w__get");
  EXPECT_EQ((*chat)["tool_choice"]["function"]["name"], "mcp__w__get");
}

TEST(Responses, RefusesWhatItCannotDo) {
  Fixture f;
  const struct {
    std::string_view fields, param;
  } cases[] = {
      {R"("previous_response_id":"resp_1")", "previous_response_id"},
      {R"("conversation":{"id":"x"})", "conversation"},
      {R"("background":true)", "background"},
      {R"("top_logprobs":21)", "top_logprobs"},
      {R"("input":null)", "input"},
      {R"("input":[])", "input"},
      {R"("input":[{"type":"item_reference","id":"x"}])", "input[0].type"},
      {R"("input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}])",
       "input[0].content[0].type"},
      {R"("input":[{"role":"tool","content":"x"}])", "input[0].role"},
      {R"("input":[{"type":"function_call","name":"f","arguments":"{}"}])", "input[0].call_id"},
      {R"("instructions":5)", "instructions"},
      {R"("tools":[{"type":"function"}])", "tools[0].name"},
      {R"("tools":[{"type":"namespace","name":"n"}])", "tools[0].tools"},
      {R"("tools":[{"type":"namespace","name":"n","tools":[5]}])", "tools[0].tools[0]"},
      {R"("text":5)", "text"},
      {R"("temperature":"hot")", "temperature"},
  };
  for (const auto& c : cases) {
    const auto r = f.ask("POST", "/v1/responses", body(c.fields));
    EXPECT_EQ(r->status(), 400) << c.fields;
    EXPECT_EQ(r->json()["error"]["param"], c.param) << r->body();
  }
}

TEST(Responses, TellsOfAFailureAtItsEnd) {
  Fixture f;
  f.backend->generate_late_error = Error{ErrorKind::kInternal, "it broke"};
  const auto events = streamed(f);
  const Json& last = events.back();
  EXPECT_EQ(last["type"], "response.failed");
  EXPECT_EQ(last["sequence_number"], events.size() - 1);
  EXPECT_EQ(last["response"]["status"], "failed");
  EXPECT_THAT(last["response"]["error"]["message"].get<std::string>(), HasSubstr("it broke"));
  f.backend->generate_error = Error{ErrorKind::kInternal, "it broke"};
  EXPECT_EQ(f.ask("POST", "/v1/responses", body(R"("stream":true)"))->status(), 500);
}

}  // namespace
}  // namespace packmule::api
