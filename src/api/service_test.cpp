#include "api/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;

void expect_error(FakeResponder& r, int status, std::string_view type, std::string_view code) {
  EXPECT_EQ(r.status(), status) << r.body();
  EXPECT_EQ(r.header("Content-Type"), "application/json");
  const Json error = r.json().at("error");
  EXPECT_TRUE(error.at("message").is_string());
  EXPECT_EQ(error.at("type"), type) << r.body();
  EXPECT_EQ(error.at("code"), code.empty() ? Json(nullptr) : Json(code)) << r.body();
  EXPECT_TRUE(error.contains("param"));
}

TEST(Service, AnswersHealthAndModels) {
  Fixture f;
  EXPECT_EQ(f.ask("GET", "/health")->body(), R"({"status":"ok"})");
  EXPECT_EQ(f.ask("HEAD", "/v1/health?x=1")->status(), 200);
  const Json models = f.ask("GET", "/v1/models")->json();
  EXPECT_EQ(models["object"], "list");
  EXPECT_EQ(
      models["data"][0].dump(),
      R"({"id":"fake","object":"model","created":1700000000,"owned_by":"packmule","meta":{"n_vocab":300,)"
      R"("n_ctx":1000,"n_ctx_train":2000,"n_embd":8,"n_params":123,"size":456}})");
  EXPECT_EQ(f.ask("GET", "/models")->json(), models);
  EXPECT_EQ(f.ask("GET", "/v1/models/fake")->json(), models["data"][0]);
  expect_error(*f.ask("GET", "/v1/models/other"), 404, "invalid_request_error", "model_not_found");
}

TEST(Service, SaysItIsLoading) {
  Service service({});
  for (const char* target : {"/health", "/v1/models"}) {
    FakeResponder r;
    service.handle({"GET", target, {}, ""}, std::shared_ptr<Responder>(&r, [](Responder*) {}));
    expect_error(r, 503, "unavailable_error", "loading");
    EXPECT_EQ(r.header("Retry-After"), "1");
  }
}

TEST(Service, RefusesWrongPathsMethodsAndTypes) {
  Fixture f;
  expect_error(*f.ask("GET", "/nothing"), 404, "invalid_request_error", "not_found");
  expect_error(*f.ask("GET", "/health/"), 404, "invalid_request_error", "not_found");
  const auto get = f.ask("GET", "/v1/chat/completions");
  expect_error(*get, 405, "invalid_request_error", "method_not_allowed");
  EXPECT_EQ(get->header("Allow"), "POST, OPTIONS");
  const auto del = f.ask("DELETE", "/health");
  expect_error(*del, 405, "invalid_request_error", "method_not_allowed");
  EXPECT_EQ(del->header("Allow"), "GET, HEAD, OPTIONS");
  const auto options = f.ask("OPTIONS", "/tokenize");
  EXPECT_EQ(options->status(), 204);
  EXPECT_EQ(options->header("Allow"), "POST, OPTIONS");
  EXPECT_EQ(f.ask("OPTIONS", "*")->status(), 204);
  const std::string path = "/v1/chat/completions";
  expect_error(*f.ask("POST", path, chat_body(), {{"Content-Type", "multipart/form-data; boundary=x"}}), 415,
               "invalid_request_error", "unsupported_media_type");
  expect_error(*f.ask("POST", path, chat_body(), {{"content-encoding", "gzip"}}), 415,
               "invalid_request_error", "unsupported_media_type");
  for (const char* type :
       {"application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain"})
    EXPECT_EQ(f.ask("POST", path, chat_body(), {{"CONTENT-TYPE", type}})->status(), 200);
}

TEST(Service, RefusesBodiesThatAreNoObject) {
  Fixture f;
  for (const char* path : {"/v1/chat/completions", "/tokenize", "/detokenize", "/apply-template"})
    for (const std::string& body : {std::string(), std::string("{"), std::string("[]"),
                                    std::string("\"\xff\""), std::string(100000, '[')}) {
      const auto r = f.ask("POST", path, body);
      expect_error(*r, 400, "invalid_request_error", "");
      EXPECT_THAT(r->body(), HasSubstr("the request body"));
    }
}

TEST(Service, AsksForTheKey) {
  Fixture f({.api_keys = {"secret"}});
  EXPECT_EQ(f.ask("GET", "/health")->status(), 200);
  for (const Headers& headers :
       {Headers{}, Headers{{"Authorization", "Bearer secre"}}, Headers{{"Authorization", "Bearer secrets"}},
        Headers{{"Authorization", "secret"}}, Headers{{"Authorization", "Bearer "}}}) {
    expect_error(*f.ask("GET", "/v1/models", "", headers), 401, "authentication_error", "invalid_api_key");
    expect_error(*f.ask("GET", "/nothing", "", headers), 401, "authentication_error", "invalid_api_key");
  }
  EXPECT_EQ(f.ask("GET", "/v1/models", "", {{"authorization", "Bearer secret"}})->status(), 200);
  EXPECT_EQ(f.ask("GET", "/v1/models", "", {{"X-Api-Key", "secret"}})->status(), 200);
  Fixture two({.api_keys = {"one", "other"}});
  for (const auto& [key, status] : {std::pair{"one", 200}, {"other", 200}, {"oneother", 401}, {"", 401}})
    EXPECT_EQ(two.ask("GET", "/v1/models", "", {{"X-Api-Key", key}})->status(), status) << key;
}

TEST(Service, OpensItselfToPagesOnlyWhenAsked) {
  const Headers asking = {{"Origin", "http://page"}, {"Access-Control-Request-Method", "POST"}};
  Fixture shut;
  EXPECT_EQ(shut.ask("OPTIONS", "/tokenize", "", asking)->header("Access-Control-Allow-Origin"), "");
  EXPECT_EQ(shut.chat()->header("Access-Control-Allow-Origin"), "");
  Fixture open({.api_keys = {"secret"}, .cors_origin = "http://page"});
  const auto allowed = open.ask("OPTIONS", "/v1/chat/completions", "", asking);
  EXPECT_EQ(allowed->status(), 204);
  EXPECT_EQ(allowed->header("Access-Control-Allow-Origin"), "http://page");
  EXPECT_THAT(allowed->header("Access-Control-Allow-Headers"), HasSubstr("Authorization"));
  const auto refused = open.chat();
  EXPECT_EQ(refused->status(), 401);
  EXPECT_EQ(refused->header("Access-Control-Allow-Origin"), "http://page") << "or the page cannot read why";
  for (const char* stream : {"true", "false"})
    EXPECT_EQ(open.ask("POST", "/v1/chat/completions", chat_body(fmt::format("\"stream\":{}", stream)),
                       {{"X-Api-Key", "secret"}})
                  ->header("Access-Control-Allow-Origin"),
              "http://page");
}

TEST(Chat, AnswersWhole) {
  Fixture f;
  const auto r = f.chat(R"("model":"whatever","max_tokens":7,"seed":5)");
  ASSERT_EQ(r->status(), 200) << r->body();
  const Json json = r->json();
  EXPECT_THAT(json["id"].get<std::string>(), testing::MatchesRegex("chatcmpl-[0-9A-Za-z]+"));
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_GT(json["created"], 1700000000);
  EXPECT_EQ(json["model"], "fake");
  ASSERT_EQ(json["choices"].size(), 1u);
  EXPECT_EQ(json["choices"][0]["message"].dump(), R"({"role":"assistant","content":"Hello world"})");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(
      json["usage"].dump(),
      R"({"prompt_tokens":18,"completion_tokens":3,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":2},)"
      R"("completion_tokens_details":{"reasoning_tokens":0}})");
  EXPECT_EQ(json["timings"]["cache_n"], 2);
  EXPECT_EQ(json["timings"]["prompt_n"], 16);
  EXPECT_EQ(json["timings"]["prompt_per_second"], 160.0);
  EXPECT_EQ(json["timings"]["predicted_n"], 3);
  EXPECT_EQ(json["timings"]["predicted_per_second"], 60.0);
  EXPECT_EQ(std::string(f.backend->last_request.prompt.begin(), f.backend->last_request.prompt.end()),
            "user:hi\nassistant:");
  EXPECT_EQ(f.backend->last_request.max_tokens, 7);
  EXPECT_EQ(f.backend->last_request.sampling.seed, 5u);
}

TEST(Chat, StreamsTheSameAnswer) {
  for (const bool thinks : {false, true})
    for (const bool usage : {false, true}) {
      Fixture f;
      f.backend->reason = engine::FinishReason::kLength;
      if (thinks) {
        f.backend->opening = "<think>\n";
        f.backend->pieces = {"hm", "m\n</th", "ink>", "\n", "\nHi \xc3\xa4 ", "", "there\n"};
      }
      const Json whole = f.chat()->json();
      const auto r =
          f.chat(usage ? R"("stream":true,"stream_options":{"include_usage":true})" : R"("stream":true)");
      EXPECT_TRUE(r->streamed());
      EXPECT_EQ(r->header("Content-Type"), "text/event-stream");
      const auto events = parse_sse(r->body());
      ASSERT_TRUE(events) << r->body();
      std::string content, reasoning;
      for (size_t i = 0; i < events->size(); ++i) {
        const Json& event = (*events)[i];
        EXPECT_EQ(event["object"], "chat.completion.chunk");
        EXPECT_EQ(event["id"], (*events)[0]["id"]);
        EXPECT_EQ(event.contains("usage"), usage);
        if (event["choices"].empty()) {
          EXPECT_TRUE(usage && i + 1 == events->size());
          continue;
        }
        const Json& delta = event["choices"][0]["delta"];
        EXPECT_EQ(delta.contains("role"), i == 0);
        content += delta.value("content", "");
        reasoning += delta.value("reasoning_content", "");
        const bool last = i + 1 + (usage ? 1 : 0) == events->size();
        EXPECT_EQ(event["choices"][0]["finish_reason"], last ? Json("length") : Json(nullptr));
      }
      const Json& message = whole["choices"][0]["message"];
      EXPECT_EQ(content, message["content"]);
      EXPECT_EQ(reasoning, message.value("reasoning_content", ""));
      EXPECT_EQ(content, thinks ? "Hi \xc3\xa4 there\n" : "Hello world");
      EXPECT_EQ(reasoning, thinks ? "hmm" : "");
      EXPECT_EQ(events->back()["timings"], whole["timings"]);
      EXPECT_EQ(events->back().value("usage", Json()), usage ? whole["usage"] : Json());
      // As it is, when asked for.
      const Json raw = f.chat(R"("reasoning_format":"none")")->json()["choices"][0]["message"];
      EXPECT_EQ(raw["content"], thinks ? "hmm\n</think>\n\nHi \xc3\xa4 there\n" : "Hello world");
      EXPECT_FALSE(raw.contains("reasoning_content"));
    }
}

TEST(Chat, GivesBackTheBeginningOfATagThatNeverCame) {
  for (const char* stream : {R"("stream":false)", R"("stream":true)"}) {
    Fixture f;
    f.backend->pieces = {"\n<th", "i"};
    const auto r = f.chat(stream);
    std::string content;
    if (r->streamed()) {
      const auto events = parse_sse(r->body());
      ASSERT_TRUE(events) << r->body();
      for (const Json& event : *events) content += event["choices"][0]["delta"].value("content", "");
    } else {
      content = r->json()["choices"][0]["message"]["content"];
    }
    EXPECT_EQ(content, "\n<thi");
  }
}

TEST(Chat, PassesErrorsOnWithTheirStatus) {
  Fixture f;
  expect_error(*f.ask("POST", "/v1/chat/completions", "{}"), 400, "invalid_request_error", "");
  expect_error(*f.chat(R"("mirostat":2)"), 400, "invalid_request_error", "unsupported");

  f.backend->template_error = Error{ErrorKind::kInvalidArgument, "no user query found"};
  const auto refused = f.chat();
  expect_error(*refused, 400, "invalid_request_error", "");
  EXPECT_EQ(refused->json()["error"]["message"], "no user query found");
  f.backend->template_error = Error{ErrorKind::kInternal, "the worker died"};
  expect_error(*f.chat(), 500, "server_error", "internal_error");
  f.backend->template_error.reset();

  for (const char* stream : {R"("stream":false)", R"("stream":true)"}) {
    f.backend->generate_error = Error{ErrorKind::kOutOfMemory, "no room"};
    expect_error(*f.chat(stream), 503, "unavailable_error", "out_of_memory");
    f.backend->generate_error.reset();
  }
  f.backend->generate_late_error = Error{ErrorKind::kInternal, "broken"};
  expect_error(*f.chat(), 500, "server_error", "internal_error");
  const auto late = f.chat(R"("stream":true)");
  EXPECT_EQ(late->status(), 200);
  const auto events = parse_sse(late->body(), false);
  ASSERT_TRUE(events);
  EXPECT_EQ(events->back()["error"]["message"], "broken");
}

TEST(Chat, RefusesAPromptThatDoesNotFit) {
  Fixture f;
  f.backend->model.n_ctx = 18;  // as long as the prompt: no room for an answer
  const auto r = f.chat();
  expect_error(*r, 400, "exceed_context_size_error", "context_length_exceeded");
  EXPECT_EQ(r->json()["error"]["n_prompt_tokens"], 18);
  EXPECT_EQ(r->json()["error"]["n_ctx"], 18);
  EXPECT_EQ(f.backend->n_generated, 0);
  f.backend->model.n_ctx = 19;
  EXPECT_EQ(f.chat()->status(), 200);
}

TEST(Chat, BeginsWithTheTokenTheModelWants) {
  Fixture f;
  f.backend->bos_token = 298;
  EXPECT_EQ(f.chat()->status(), 200);
  EXPECT_EQ(f.backend->last_request.prompt.at(0), 298);
  EXPECT_EQ(f.backend->last_request.prompt.at(1), 'u');
  f.backend->bos_token = 'u';  // the template has written it
  EXPECT_EQ(f.chat()->status(), 200);
  EXPECT_EQ(f.backend->last_request.prompt.at(1), 's');
}

TEST(Chat, KeepsTypedTextFromBecomingControlTokens) {
  Fixture f;
  f.backend->typed_control = {5};
  EXPECT_EQ(f.chat()->status(), 200);
  EXPECT_EQ(f.backend->last_request.prompt.at(4), ':');
  EXPECT_EQ(f.backend->last_request.prompt.at(5), 'h' + 1000);
}

TEST(Chat, BiasesTheTokensOfAText) {
  Fixture f;
  EXPECT_EQ(f.chat(R"("logit_bias":{"ab":-5,"3":1})")->status(), 200);
  EXPECT_EQ(f.backend->last_request.sampling.logit_bias,
            (std::vector<std::pair<int32_t, float>>{{3, 1.0f}, {'a', -5.0f}, {'b', -5.0f}}));
}

TEST(Chat, ParsesArgumentsWhenTheTemplateNeedsObjects) {
  const std::string body =
      R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}]})";
  Fixture f;
  EXPECT_EQ(f.ask("POST", "/apply-template", body)->json()["prompt"],
            "assistant:\"{\\\"a\\\":1}\"\nassistant:");
  f.backend->object_arguments = true;
  EXPECT_EQ(f.ask("POST", "/apply-template", body)->json()["prompt"], "assistant:{\"a\":1}\nassistant:");
}

TEST(Chat, OneIsGeneratedAtATimeAndOthersGoOn) {
  Fixture f;
  f.backend->block_until_stop = true;
  const auto first = f.begin("POST", "/v1/chat/completions", chat_body(R"("stream":true)"));
  ASSERT_TRUE(first->wait_for_start());
  const auto second = f.begin("POST", "/v1/chat/completions", chat_body());
  // Neither a look-up, nor the tokenizer, nor a wrong request waits for the generation.
  EXPECT_EQ(f.ask("GET", "/health")->status(), 200);
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":"a"})")->status(), 200);
  EXPECT_EQ(f.ask("POST", "/v1/chat/completions", "{}")->status(), 400);
  EXPECT_FALSE(first->done());
  EXPECT_FALSE(second->done());
  first->stop.request_stop();  // the client leaves
  ASSERT_TRUE(first->wait());
  second->stop.request_stop();
  ASSERT_TRUE(second->wait());
  EXPECT_EQ(f.backend->most_running, 1);
}

TEST(Chat, SeveralAreGeneratedAtATime) {
  Fixture f({.n_parallel = 3});
  f.backend->block_until_stop = true;
  std::vector<std::shared_ptr<FakeResponder>> running;
  for (int i = 0; i < 3; ++i) {
    running.push_back(f.begin("POST", "/v1/chat/completions", chat_body(R"("stream":true)")));
    ASSERT_TRUE(running.back()->wait_for_start()) << i;
  }
  const auto waiting = f.begin("POST", "/v1/chat/completions", chat_body(R"("stream":true)"));
  running[1]->stop.request_stop();
  ASSERT_TRUE(running[1]->wait());
  ASSERT_TRUE(waiting->wait_for_start());
  EXPECT_FALSE(running[0]->done());
  EXPECT_FALSE(running[2]->done());
  EXPECT_EQ(f.backend->most_running, 3);
  for (const auto& one : {running[0], running[2], waiting}) one->stop.request_stop();
  for (const auto& one : {running[0], running[2], waiting}) EXPECT_TRUE(one->wait());
}

TEST(Chat, StopsWhenNobodyReads) {
  Fixture f;
  f.backend->block_until_stop = true;
  auto responder = std::make_shared<FakeResponder>();
  responder->refuse_writes = true;
  f.service.handle({"POST", "/v1/chat/completions", {}, chat_body(R"("stream":true)")}, responder);
  EXPECT_TRUE(responder->wait());  // a refused write has cancelled the generation
}

TEST(Chat, RefusesWhenTooManyWait) {
  Fixture f({.max_waiting = 2});
  f.backend->block_until_stop = true;
  const auto running = f.begin("POST", "/v1/chat/completions", chat_body(R"("stream":true)"));
  ASSERT_TRUE(running->wait_for_start());
  std::vector<std::shared_ptr<FakeResponder>> waiting;
  for (int i = 0; i < 2; ++i) waiting.push_back(f.begin("POST", "/v1/chat/completions", chat_body()));
  const auto refused = f.ask("POST", "/v1/chat/completions", chat_body());
  expect_error(*refused, 503, "unavailable_error", "busy");
  EXPECT_FALSE(refused->header("Retry-After").empty());
  // One that has left makes room.
  waiting[0]->stop.request_stop();
  const auto taken = f.begin("POST", "/v1/chat/completions", chat_body());
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":"a"})")->status(), 200);  // prepared by now
  EXPECT_FALSE(taken->done());
  for (const auto& r : {running, waiting[1], taken}) r->stop.request_stop();
  EXPECT_TRUE(taken->wait());
}

TEST(Chat, EndsWithTheServiceInTheMiddle) {
  auto f = std::make_unique<Fixture>();
  f->backend->block_until_stop = true;
  const auto running = f->begin("POST", "/v1/chat/completions", chat_body(R"("stream":true)"));
  ASSERT_TRUE(running->wait_for_start());
  const auto waiting = f->begin("POST", "/v1/chat/completions", chat_body());
  f.reset();
  EXPECT_TRUE(running->done());
  EXPECT_THAT(running->body(), HasSubstr("cancelled"));
}

TEST(Tokens, GoThereAndBack) {
  Fixture f;
  f.backend->bos_token = 298;
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":"ab"})")->body(), R"({"tokens":[97,98]})");
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":""})")->body(), R"({"tokens":[]})");
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":"<eos>"})")->body(), R"({"tokens":[299]})");
  EXPECT_EQ(
      f.ask("POST", "/tokenize", R"({"content":"<eos>","parse_special":false})")->json()["tokens"].size(),
      5u);
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":"a","add_special":true})")->body(),
            R"({"tokens":[298,97]})");
  EXPECT_EQ(f.ask("POST", "/tokenize", R"({"content":"a\u00e4","with_pieces":true})")->body(),
            R"({"tokens":[{"id":97,"piece":"a"},{"id":195,"piece":[195]},{"id":164,"piece":[164]}]})");
  EXPECT_EQ(f.ask("POST", "/detokenize", R"({"tokens":[97,195,164,299]})")->body(),
            "{\"content\":\"a\xc3\xa4<eos>\"}");
  EXPECT_EQ(f.ask("POST", "/detokenize", R"({"tokens":[97,195]})")->body(),
            "{\"content\":\"a\xef\xbf\xbd\"}");
  EXPECT_EQ(f.ask("POST", "/detokenize", R"({"tokens":[]})")->body(), R"({"content":""})");
}

TEST(Tokens, RefuseWhatIsWrong) {
  Fixture f;
  for (const char* body :
       {"{}", R"({"content":5})", R"({"content":["a"]})", R"({"content":"a","with_pieces":"x"})"})
    expect_error(*f.ask("POST", "/tokenize", body), 400, "invalid_request_error", "");
  for (const char* body : {"{}", R"({"tokens":"a"})", R"({"tokens":[300]})", R"({"tokens":[-1]})",
                           R"({"tokens":["a"]})", R"({"tokens":[1.5]})"})
    expect_error(*f.ask("POST", "/detokenize", body), 400, "invalid_request_error", "");
}

TEST(Template, IsApplied) {
  Fixture f;
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}])";
  EXPECT_EQ(f.ask("POST", "/apply-template", chat_body(tools))->json()["prompt"],
            "tools:[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]\nuser:hi\nassistant:");
  EXPECT_EQ(f.ask("POST", "/apply-template", chat_body(R"("add_generation_prompt":false)"))->json()["prompt"],
            "user:hi\n");
  expect_error(*f.ask("POST", "/apply-template", "{}"), 400, "invalid_request_error", "");
}

}  // namespace
}  // namespace packmule::api
