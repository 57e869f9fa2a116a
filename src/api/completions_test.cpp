#include "api/completions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "api/completion_answer.h"
#include "api/completion_request.h"
#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;
using Ids = std::vector<int32_t>;

Json ask(Fixture& f, std::string path, const std::string& body) {
  const auto r = f.ask("POST", std::move(path), body);
  EXPECT_EQ(r->status(), 200) << r->body();
  return r->json();
}

std::vector<Json> ask_streamed(Fixture& f, std::string path, std::string body, bool expect_done = true) {
  body.insert(1, R"("stream":true,)");
  const auto r = f.ask("POST", std::move(path), body);
  EXPECT_EQ(r->status(), 200) << r->body();
  const auto events = parse_sse(r->body(), expect_done);
  EXPECT_TRUE(events.has_value()) << r->body();
  return events.value_or(std::vector<Json>());
}

TEST(Completions, AnswersWhole) {
  Fixture f;
  const Json json = ask(f, "/v1/completions", R"({"prompt":"ab","seed":3,"best_of":1,"suffix":""})");
  EXPECT_TRUE(json["id"].get_ref<const std::string&>().starts_with("cmpl-"));
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["choices"].dump(),
            R"([{"text":"Hello world","index":0,"logprobs":null,"finish_reason":"stop"}])");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 2);
  EXPECT_EQ(json["timings"]["cache_n"], 2);
  EXPECT_EQ(f.backend->last_request.prompt, (Ids{'a', 'b'}));
  EXPECT_EQ(f.backend->last_request.max_tokens, 16) << "OpenAI's default";
  EXPECT_EQ(f.backend->last_request.sampling.seed, 3u);
}

TEST(Completions, ReadsPromptsInEveryForm) {
  const struct {
    std::string prompt;
    std::vector<Ids> expected;
  } cases[] = {
      {R"("ab")", {{'a', 'b'}}},
      {R"([1,2,300.0])", {}},
      {R"([1,2,3])", {{1, 2, 3}}},
      {R"([1,"ab",2])", {{1, 'a', 'b', 2}}},
      {R"(["a","b"])", {{'a'}, {'b'}}},
      {R"([[1,2],"b",["c",3]])", {{1, 2}, {'b'}, {'c', 3}}},
      {R"("<eos>")", {{299}}},
      {R"([])", {}},
      {R"("")", {}},
      {R"(["a",""])", {}},
      {R"([["a"],{}])", {}},
      {R"({"prompt_string":"a"})", {}},
      {R"([-1])", {}},
      {R"(null)", {}},
  };
  FakeBackend backend;
  for (const auto& c : cases) {
    const auto found = read_prompts(backend, Json::parse(c.prompt));
    ASSERT_EQ(found.has_value(), !c.expected.empty()) << c.prompt;
    if (!found) {
      EXPECT_THAT(found.error().param, testing::StartsWith("prompt"));
      continue;
    }
    ASSERT_EQ(found->size(), c.expected.size()) << c.prompt;
    for (size_t i = 0; i < found->size(); ++i) EXPECT_EQ((*found)[i].tokens, c.expected[i]) << c.prompt;
  }
  backend.bos_token = 298;
  EXPECT_EQ(read_prompts(backend, "a")->at(0).tokens, (Ids{298, 'a'}));
  EXPECT_EQ(read_prompts(backend, Json::parse("[1]"))->at(0).tokens, (Ids{1}))
      << "tokens are taken as they are";
}

TEST(Completions, GivesSeveralAnswersToEachPrompt) {
  Fixture f;
  const std::string body =
      R"({"prompt":["ab","c"],"n":2,"echo":true,"seed":7,"stream_options":{"include_usage":true}})";
  const Json whole = ask(f, "/v1/completions", body);
  ASSERT_EQ(whole["choices"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(whole["choices"][i]["index"], i);
    EXPECT_EQ(whole["choices"][i]["text"], i < 2 ? "abHello world" : "cHello world");
  }
  EXPECT_EQ(f.backend->last_request.sampling.seed, 8u) << "another seed for each answer";
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 3) << "each prompt counts once";
  EXPECT_EQ(whole["usage"]["completion_tokens"], 12);

  std::vector<std::string> texts(4);
  const auto events = ask_streamed(f, "/v1/completions", body);
  for (const Json& event : events)
    for (const Json& choice : event["choices"])
      texts[choice["index"]] += choice["text"].get_ref<const std::string&>();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(texts[i], whole["choices"][i]["text"]);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back()["usage"], whole["usage"]);
}

TEST(Completions, TellsLogProbabilities) {
  Fixture f;
  const Json whole = ask(f, "/v1/completions", R"({"prompt":"ab","logprobs":3})");
  const Json logprobs = whole["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 3u);
  EXPECT_EQ(logprobs["token_logprobs"].dump(), "[-0.5,-0.5,-0.5]");
  EXPECT_EQ(logprobs["top_logprobs"][0].dump(), R"({"\u0001":-0.5,"\u0002":-1.0,"\u0003":-9999.0})");
  EXPECT_EQ(logprobs["text_offset"].dump(), "[0,1,2]");
  Json joined;
  for (const Json& event : ask_streamed(f, "/v1/completions", R"({"prompt":"ab","logprobs":3})")) {
    const Json& some = event["choices"][0]["logprobs"];
    for (const auto& [name, list] : some.items())
      for (const Json& entry : list) joined[name].push_back(entry);
  }
  EXPECT_EQ(joined, logprobs);
}

TEST(Completions, NamesTokensThatAreNoText) {
  class HalfCharacters : public FakeBackend {
    std::string_view token_bytes(int32_t token) const override { return token == 1 ? "\xf0\x9f" : "\xe4"; }
  };
  const HalfCharacters backend;
  CompletionAnswer writer(backend, {.with_logprobs = true});
  const Json whole =
      writer.whole({{.parts = {{.text = "x", .tokens = {{1, {{1, -1.f}, {1, -1.f}, {2, -2.f}}}}}}}});
  EXPECT_EQ(whole["choices"][0]["logprobs"]["tokens"].dump(), R"(["bytes:\\xf0\\x9f"])");
  EXPECT_EQ(whole["choices"][0]["logprobs"]["top_logprobs"].dump(),
            R"([{"bytes:\\xf0\\x9f":-1.0,"bytes:\\xe4":-2.0}])");
}

TEST(Completions, LengthsOfNothingAndOfTime) {
  Fixture f;
  for (const char* path : {"/completion", "/v1/completions"}) {
    EXPECT_EQ(f.ask("POST", path, R"({"prompt":"a","max_tokens":0,"t_max_predict_ms":250})")->status(), 200);
    EXPECT_EQ(f.backend->last_request.max_tokens, 0) << "the prompt is read, and nothing generated";
    EXPECT_EQ(f.backend->last_request.max_predict_time, std::chrono::milliseconds(250));
    EXPECT_EQ(f.ask("POST", path, R"({"prompt":"a","t_max_predict_ms":-1})")->status(), 200);
    EXPECT_EQ(f.backend->last_request.max_predict_time, std::chrono::milliseconds(0));
  }
  EXPECT_EQ(ask(f, "/completion", R"({"prompt":"a","n_cmpl":2})").size(), 2u);
}

TEST(Completions, RefusesWhatItCannotDo) {
  Fixture f;
  for (const char* field :
       {R"("suffix":"x")", R"("best_of":2)", R"("echo":true,"logprobs":1)", R"("logprobs":21)", R"("n":33)",
        R"("prompt":null)", R"("typical_p":0.5)", R"("max_tokens":-2)", R"("t_max_predict_ms":"1")"}) {
    const auto r = f.ask("POST", "/v1/completions", fmt::format(R"({{"prompt":["a","b"],{}}})", field));
    EXPECT_EQ(r->status(), 400) << field;
  }
  for (const char* field :
       {R"("image_data":[1])", R"("samplers":["top_k"])", R"("post_sampling_probs":true)"}) {
    const auto r = f.ask("POST", "/completion", fmt::format(R"({{"prompt":"a",{}}})", field));
    EXPECT_EQ(r->status(), 400) << field;
    EXPECT_EQ(r->json()["error"]["code"], "unsupported") << field;
  }
  const auto r = f.ask("POST", "/completion", fmt::format(R"({{"prompt":"{}"}})", std::string(1000, 'a')));
  EXPECT_EQ(r->json()["error"]["code"], "context_length_exceeded");
}

class Grammars : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Completions, Grammars, testing::Values("/completion", "/v1/completions"));

TEST_P(Grammars, HoldAnswers) {
  Fixture f;
  const auto ask = [&](const char* fields) {
    return f.ask("POST", GetParam(), fmt::format(R"({{"prompt":"a",{}}})", fields));
  };
  for (const char* fields :
       {R"("grammar":"root ::= \"yes\" | \"no\"")", R"("json_schema":{"type":"integer"})",
        R"("response_format":{"type":"json_object"})"}) {
    EXPECT_EQ(ask(fields)->status(), 200) << fields;
    EXPECT_TRUE(f.backend->last_request.constraint) << fields;
  }
  EXPECT_EQ(ask(R"("grammar":"")")->status(), 200);
  EXPECT_FALSE(f.backend->last_request.constraint);
  EXPECT_EQ(ask(R"("grammar":"root ::= (")")->json()["error"]["param"], "grammar");
  EXPECT_EQ(ask(R"("json_schema":{"multipleOf":2})")->json()["error"]["param"], "json_schema");
}

TEST(LlamaCompletion, AnswersWhole) {
  Fixture f;
  f.backend->pieces = {"a\n", "b"};
  f.backend->reason = engine::FinishReason::kStopString;
  const std::string body =
      R"({"prompt":"ab","n_predict":9,"stop":["x"],"n_probs":1,"return_tokens":true,"seed":4,)"
      R"("logit_bias":[[5,false]],"cache_prompt":true,"id_slot":-1})";
  const Json json = ask(f, "/completion", body);
  EXPECT_EQ(json["content"], "a\nb");
  EXPECT_EQ(json["tokens"].dump(), "[1,1]");
  EXPECT_EQ(json["stop"], true);
  EXPECT_EQ(json["stop_type"], "word");
  EXPECT_EQ(json["stopping_word"], "x");
  EXPECT_EQ(json["has_new_line"], true);
  EXPECT_EQ(json["prompt"], "ab");
  EXPECT_EQ(json["tokens_predicted"], 2);
  EXPECT_EQ(json["tokens_evaluated"], 2);
  EXPECT_EQ(json["generation_settings"]["n_predict"], 9);
  EXPECT_EQ(json["generation_settings"]["logit_bias"].dump(), "[[5,false]]");
  EXPECT_EQ(json["completion_probabilities"][1].dump(),
            R"({"id":1,"token":"\u0001","bytes":[1],"logprob":-0.5,)"
            R"("top_logprobs":[{"id":1,"token":"\u0001","bytes":[1],"logprob":-0.5}]})");
  EXPECT_EQ(ask(f, "/completions", R"({"prompt":"ab"})")["tokens"].dump(), "[]");
  EXPECT_EQ(f.backend->last_request.max_tokens, -1);
  EXPECT_EQ(ask(f, "/completion", R"({"prompt":["a","b"]})").size(), 2u);
}

TEST(LlamaCompletion, StreamedIsTheSame) {
  Fixture f;
  for (const auto& [reason, name] :
       {std::pair{engine::FinishReason::kEndOfTurn, "eos"}, {engine::FinishReason::kLength, "limit"}}) {
    f.backend->reason = reason;
    const Json whole = ask(f, "/completion", R"({"prompt":"ab","return_tokens":true})");
    const auto events = ask_streamed(f, "/completion", R"({"prompt":"ab"})", false);
    std::string content;
    Json tokens = Json::array();
    for (const Json& event : events) {
      content += event["content"].get_ref<const std::string&>();
      for (const Json& token : event["tokens"]) tokens.push_back(token);
      EXPECT_EQ(event["stop"], &event == &events.back());
      EXPECT_EQ(event["tokens_evaluated"], 2);
    }
    EXPECT_EQ(content, whole["content"]);
    EXPECT_EQ(tokens, whole["tokens"]);
    EXPECT_EQ(events.back()["stop_type"], name);
    EXPECT_EQ(events.back()["timings"], whole["timings"]);
  }
}

TEST(Chat, GivesSeveralAnswersAndLogProbabilities) {
  Fixture f;
  const char* fields =
      R"("n":2,"logprobs":true,"top_logprobs":1,"seed":4294967293,"stream_options":{"include_usage":true})";
  const Json whole = f.chat(fields)->json();
  EXPECT_EQ(f.backend->last_request.sampling.seed, 4294967294u);
  ASSERT_EQ(whole["choices"].size(), 2u);
  EXPECT_EQ(whole["choices"][1]["logprobs"]["content"].size(), 3u);
  EXPECT_EQ(whole["choices"][1]["logprobs"]["content"][2].dump(),
            R"({"id":1,"token":"\u0001","bytes":[1],"logprob":-0.5,)"
            R"("top_logprobs":[{"id":1,"token":"\u0001","bytes":[1],"logprob":-0.5}]})");
  const auto events = parse_sse(f.chat(std::string(R"("stream":true,)") + fields)->body());
  ASSERT_TRUE(events);
  Json logprobs[2];
  std::string texts[2];
  for (const Json& event : *events)
    for (const Json& choice : event["choices"]) {
      const size_t i = choice["index"];
      texts[i] += choice["delta"].value("content", "");
      if (!choice["logprobs"].is_null())
        for (const Json& token : choice["logprobs"]["content"]) logprobs[i].push_back(token);
    }
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(texts[i], "Hello world");
    EXPECT_EQ(logprobs[i], whole["choices"][i]["logprobs"]["content"]);
  }
  EXPECT_EQ(events->back()["usage"], whole["usage"]);
}

/// llama-server's fields, in all dialects that llama-server has them in.
TEST(Streaming, TellsOfProgressAndTimingsWhenAsked) {
  Fixture f;
  const struct {
    const char* path;
    std::string body;
  } cases[] = {{"/v1/chat/completions", chat_body()},
               {"/v1/completions", R"({"prompt":"hello"})"},
               {"/completion", R"({"prompt":"hello"})"}};
  for (const auto& c : cases) {
    const auto events_of = [&](std::string_view more) {
      std::string body = c.body;
      body.insert(1, fmt::format(R"("stream":true{},)", more));
      const bool is_llama = std::string_view(c.path) == "/completion";
      auto events = parse_sse(f.ask("POST", c.path, body)->body(), !is_llama);
      EXPECT_TRUE(events.has_value()) << c.path;
      return events.value_or(std::vector<Json>{});
    };
    const auto n_with = [](const std::vector<Json>& events, const char* field) {
      return std::count_if(events.begin(), events.end(), [&](const Json& e) { return e.contains(field); });
    };
    EXPECT_EQ(n_with(events_of(""), "prompt_progress"), 0) << c.path;
    EXPECT_EQ(n_with(events_of(""), "timings"), 1) << c.path << ": at the end";
    const auto progress = events_of(R"(,"return_progress":true)");
    ASSERT_EQ(n_with(progress, "prompt_progress"), 1) << c.path;
    for (const Json& event : progress) {
      if (!event.contains("prompt_progress")) continue;
      EXPECT_EQ(event["prompt_progress"].size(), 4u);
      EXPECT_EQ(event["prompt_progress"]["total"], f.backend->last_request.prompt.size());
      EXPECT_EQ(event["prompt_progress"]["cache"], 2);
      EXPECT_EQ(event["prompt_progress"]["processed"], 3);
      EXPECT_EQ(event["prompt_progress"]["time_ms"], 100);
    }
    std::vector<int64_t> predicted;
    for (const Json& event : events_of(R"(,"timings_per_token":true)"))
      if (event.contains("timings")) predicted.push_back(event["timings"]["predicted_n"]);
    EXPECT_EQ(predicted, (std::vector<int64_t>{1, 2, 3, 3})) << c.path << ": every piece, and the end";
    EXPECT_EQ(
        f.ask("POST", c.path, c.body.substr(0, c.body.size() - 1) + R"(,"return_progress":1})")->status(),
        400);
  }
}

}  // namespace
}  // namespace packmule::api
