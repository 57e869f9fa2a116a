#include "api/chat_request.h"

#include <gtest/gtest.h>

#include <cmath>

#include "api/messages.h"

namespace packmule::api {
namespace {

Json with(std::string_view fields) {
  return Json::parse(fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}}]{}{}}})",
                                 fields.empty() ? "" : ",", fields));
}

ApiResult<ChatRequest> parse(const Json& body) {
  return parse_chat_request(body, {}, 1000);
}

TEST(ChatRequest, TakesDefaultsForWhatIsNotSet) {
  const sampling::Params defaults{.temperature = 0.6f, .top_k = 7, .seed = 3};
  const auto request = parse_chat_request(with(""), defaults, 1000);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->generation.sampling.temperature, 0.6f);
  EXPECT_EQ(request->generation.sampling.top_k, 7);
  EXPECT_EQ(request->generation.sampling.seed, 3u);
  EXPECT_EQ(request->generation.max_tokens, -1);
  EXPECT_FALSE(request->streaming.stream);
  EXPECT_TRUE(request->split_reasoning);
  EXPECT_TRUE(request->tools.is_null());
  EXPECT_EQ(request->kwargs.dump(), R"({"add_generation_prompt":true})");
  // null is the same as not set.
  EXPECT_EQ(
      parse_chat_request(with(R"("temperature":null,"stop":null,"seed":null,"tools":null)"), defaults, 1000)
          ->generation.sampling.temperature,
      0.6f);
}

TEST(ChatRequest, ReadsEveryField) {
  const auto r =
      parse(with(R"("temperature":0.5,"top_p":0.25,"top_k":5.0,"min_p":0.125,"presence_penalty":1.5,
    "frequency_penalty":-0.5,"repeat_penalty":1.25,"repeat_last_n":-1,"seed":42,"stop":["a","","b"],"max_tokens":9,
    "logit_bias":{"5":1.5,"7":-100,"word":2},"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true},
    "chat_template_kwargs":{"enable_thinking":false},"n":1,"logprobs":false,"response_format":{"type":"text"},
    "tool_choice":"auto","reasoning_format":"none","user":"x","unheard_of":{"a":1})"));
  ASSERT_TRUE(r) << r.error().message;
  const sampling::Params& s = r->generation.sampling;
  EXPECT_EQ(s.temperature, 0.5f);
  EXPECT_EQ(s.top_p, 0.25f);
  EXPECT_EQ(s.top_k, 5);
  EXPECT_EQ(s.min_p, 0.125f);
  EXPECT_EQ(s.presence_penalty, 1.5f);
  EXPECT_EQ(s.frequency_penalty, -0.5f);
  EXPECT_EQ(s.repeat_penalty, 1.25f);
  EXPECT_EQ(s.repeat_last_n, -1);
  EXPECT_EQ(s.seed, 42u);
  EXPECT_EQ(s.logit_bias, (std::vector<std::pair<int32_t, float>>{{5, 1.5f}, {7, -100.0f}}));
  EXPECT_EQ(r->text_bias, (std::vector<std::pair<std::string, float>>{{"word", 2.0f}}));
  EXPECT_EQ(r->generation.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(r->generation.max_tokens, 9);
  EXPECT_TRUE(r->generation.ignore_eos);
  EXPECT_TRUE(r->streaming.stream);
  EXPECT_TRUE(r->streaming.usage);
  EXPECT_FALSE(r->split_reasoning);
  EXPECT_EQ(r->kwargs.dump(), R"({"add_generation_prompt":true,"enable_thinking":false})");
}

TEST(ChatRequest, ReadsTheOtherForms) {
  EXPECT_EQ(parse(with(R"("stop":"x")"))->generation.stop, std::vector<std::string>{"x"});
  EXPECT_EQ(parse(with(R"("max_tokens":5,"max_completion_tokens":6)"))->generation.max_tokens, 6);
  EXPECT_EQ(parse(with(R"("n_predict":4)"))->generation.max_tokens, 4);
  EXPECT_EQ(parse(with(R"("max_tokens":-1)"))->generation.max_tokens, -1);
  const auto pairs = parse(with(R"("logit_bias":[[3,1],["12",2],["ab",false],[4,false]])"));
  ASSERT_TRUE(pairs);
  const auto& bias = pairs->generation.sampling.logit_bias;
  ASSERT_EQ(bias.size(), 3u);
  EXPECT_EQ(bias[0], (std::pair<int32_t, float>{3, 1.0f}));
  EXPECT_EQ(bias[1], (std::pair<int32_t, float>{12, 2.0f}));
  EXPECT_EQ(bias[2].first, 4);
  EXPECT_TRUE(std::isinf(bias[2].second) && bias[2].second < 0);
  EXPECT_EQ(pairs->text_bias.at(0).first, "ab");
}

TEST(ChatRequest, FoldsSeedsButOnlyMinusOneIsRandom) {
  const auto seed = [](std::string_view text) {
    return parse(with(R"("seed":)" + std::string(text)))->generation.sampling.seed;
  };
  EXPECT_EQ(seed("-1"), sampling::kRandomSeed);
  EXPECT_EQ(seed("4294967295"), sampling::kRandomSeed);
  EXPECT_EQ(seed("0"), 0u);
  EXPECT_EQ(seed("7"), 7u);
  EXPECT_EQ(seed("4294967296"), 1u);
  EXPECT_NE(seed("9223372032559808512"), sampling::kRandomSeed);  // the halves fold to all ones
  EXPECT_FALSE(parse(with(R"("seed":1.5)")));
}

TEST(ChatRequest, ToolsReachTheTemplateUnlessTheyAreOff) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}])";
  EXPECT_EQ(parse(with(tools))->tools.dump(),
            R"([{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}])");
  EXPECT_TRUE(parse(with(tools + R"(,"tool_choice":"none")"))->tools.is_null());
  EXPECT_TRUE(parse(with(R"("tools":[])"))->tools.is_null());
}

TEST(ChatRequest, AnEffortOfNoneIsNoThinking) {
  EXPECT_EQ(parse(with(R"("reasoning_effort":"none")"))->kwargs["enable_thinking"], false);
  EXPECT_FALSE(parse(with(R"("reasoning_effort":"low")"))->kwargs.contains("enable_thinking"));
  EXPECT_EQ(parse(with(R"("reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true})"))
                ->kwargs["enable_thinking"],
            true);
}

TEST(ChatRequest, RefusesWhatIsWrongAndNamesTheField) {
  const struct {
    std::string_view fields, param;
  } cases[] = {
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":-1)", "temperature"},
      {R"("temperature":1e300)", "temperature"},
      {R"("top_p":1.5)", "top_p"},
      {R"("top_p":true)", "top_p"},
      {R"("min_p":-0.1)", "min_p"},
      {R"("top_k":1.5)", "top_k"},
      {R"("top_k":4294967296)", "top_k"},
      {R"("presence_penalty":1e9)", "presence_penalty"},
      {R"("repeat_penalty":0)", "repeat_penalty"},
      {R"("repeat_last_n":-2)", "repeat_last_n"},
      {R"("seed":"a")", "seed"},
      {R"("seed":18446744073709551615)", "seed"},
      {R"("stop":5)", "stop"},
      {R"("stop":["a",5])", "stop"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop"},
      {R"("max_tokens":-2)", "max_tokens"},
      {R"("max_tokens":-2)", "max_tokens"},
      {R"("max_completion_tokens":1.5)", "max_completion_tokens"},
      {R"("logit_bias":{"1000":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"1":"x"})", "logit_bias"},
      {R"("logit_bias":{"1":1e9})", "logit_bias"},
      {R"("logit_bias":[[1]])", "logit_bias"},
      {R"("logit_bias":[[1.5,1]])", "logit_bias"},
      {R"("logit_bias":3)", "logit_bias"},
      {R"("n":0)", "n"},
      {R"("n":65)", "n"},
      {R"("n":"2")", "n"},
      {R"("logprobs":5)", "logprobs"},
      {R"("top_logprobs":3)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("n_probs":-1)", "n_probs"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":true)", "stream_options"},
      {R"("stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("ignore_eos":"yes")", "ignore_eos"},
      {R"("chat_template_kwargs":[])", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"messages":[]})", "chat_template_kwargs"},
      {R"("reasoning_format":"loud")", "reasoning_format"},
      {R"("tools":{})", "tools"},
      {R"("tools":[1])", "tools[0]"},
      {R"("tools":[{"type":"retrieval"}])", "tools[0].type"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
  };
  for (const auto& c : cases) {
    const auto r = parse(with(c.fields));
    ASSERT_FALSE(r) << c.fields;
    EXPECT_EQ(r.error().status, 400) << c.fields;
    EXPECT_EQ(r.error().param, c.param) << c.fields;
    EXPECT_NE(r.error().message.find(c.param), std::string::npos) << r.error().message;
    EXPECT_EQ(r.error().message.find('\n'), std::string::npos);
  }
}

TEST(ChatRequest, ReadsHowManyLogProbabilities) {
  const auto wanted = [](std::string_view fields) { return parse(with(fields))->generation.n_logprobs; };
  EXPECT_EQ(wanted(R"("logprobs":false,"top_logprobs":0)"), -1);
  EXPECT_EQ(wanted(R"("logprobs":true)"), 0);
  EXPECT_EQ(wanted(R"("logprobs":true,"top_logprobs":20)"), 20);
  EXPECT_EQ(wanted(R"("n_probs":3)"), 3);
  EXPECT_EQ(parse(with(R"("n":3)"))->n, 3);
}

TEST(ChatRequest, RefusesWhatWouldChangeTheAnswerIfIgnored) {
  for (const char* fields :
       {R"("functions":[{"name":"f"}])", R"("modalities":["text","audio"])", R"("mirostat":2)",
        R"("typical_p":0.5)", R"("dry_multiplier":0.8)", R"("continue_final_message":true)"}) {
    const auto r = parse(with(fields));
    ASSERT_FALSE(r) << fields;
    EXPECT_EQ(r.error().status, 400);
    EXPECT_EQ(r.error().code, "unsupported") << fields;
    EXPECT_FALSE(r.error().param.empty());
  }
  EXPECT_TRUE(
      parse(with(R"("top_logprobs":0,"typical_p":1,"mirostat":0,"grammar":"","modalities":["text"])")));
}

TEST(Messages, BringsContentIntoOneForm) {
  const auto messages = parse_messages(Json::parse(R"([
    {"role":"developer","content":"be brief"},
    {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"kim"},
    {"role":"assistant","content":null,"reasoning_content":"hm",
     "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
    {"role":"assistant","content":[{"type":"text","text":"a"},{"type":"refusal","refusal":"no"}],"tool_calls":[]},
    {"role":"tool","tool_call_id":"1","content":[]}])"));
  ASSERT_TRUE(messages) << messages.error().message;
  EXPECT_EQ(
      messages->dump(),
      R"([{"role":"system","content":"be brief"},{"role":"user","content":"a\nb","name":"kim"},)"
      R"({"role":"assistant","content":"","reasoning_content":"hm","tool_calls":[{"id":"1","type":"function",)"
      R"("function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"assistant","content":"a\nno"},)"
      R"({"role":"tool","tool_call_id":"1","content":""}])");
}

TEST(Messages, RefusesWhatIsWrongAndSaysWhere) {
  const struct {
    std::string_view messages, param;
  } cases[] = {
      {R"({})", "messages"},
      {R"([])", "messages"},
      {R"([3])", "messages[0]"},
      {R"([{"content":"a"}])", "messages[0].role"},
      {R"([{"role":"robot","content":"a"}])", "messages[0].role"},
      {R"([{"role":1,"content":"a"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":"a"},{"role":"user","content":5}])", "messages[1].content"},
      {R"([{"role":"user","content":[5]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":[{"text":"a"}]}])", "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"([{"role":"user","content":"a","tool_calls":[1]}])", "messages[0].tool_calls"},
      {R"([{"role":"assistant","tool_calls":{}}])", "messages[0].tool_calls"},
      {R"([{"role":"assistant","tool_calls":[1]}])", "messages[0].tool_calls[0]"},
      {R"([{"role":"assistant","tool_calls":[{}]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role":"assistant","tool_calls":[{"function":{}}]}])", "messages[0].tool_calls[0].function.name"},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":1}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
  };
  for (const auto& c : cases) {
    const auto r = parse_messages(Json::parse(c.messages));
    ASSERT_FALSE(r) << c.messages;
    EXPECT_EQ(r.error().param, c.param) << c.messages;
    EXPECT_EQ(r.error().status, 400);
  }
}

Json call_with(const Json& arguments) {
  return Json::array(
      {{{"role", "assistant"},
        {"content", ""},
        {"tool_calls", Json::array({{{"function", {{"name", "f"}, {"arguments", arguments}}}}})}}});
}

TEST(Messages, TurnsArgumentsIntoObjects) {
  EXPECT_EQ(with_object_arguments(call_with(R"({"z":1,"a":[2.0]})"))->dump(),
            call_with(Json::parse(R"({"z":1,"a":[2.0]})")).dump());
  EXPECT_EQ(with_object_arguments(call_with(Json::object()))->dump(), call_with(Json::object()).dump());
  EXPECT_EQ(with_object_arguments(call_with(""))->dump(), call_with(Json::object()).dump());
  for (const char* bad : {"{", "[1]", "5", "x"}) {
    const auto r = with_object_arguments(call_with(bad));
    ASSERT_FALSE(r) << bad;
    EXPECT_EQ(r.error().param, "messages[0].tool_calls[0].function.arguments");
  }
}

TEST(Messages, FindsOutWhatATemplateNeeds) {
  const auto arguments = [](const Json& messages) {
    return messages[1]["tool_calls"][0]["function"]["arguments"];
  };
  // Prints whatever it is: text may stay text.
  EXPECT_FALSE(
      needs_object_arguments([&](const Json& m) -> Result<std::string> { return arguments(m).dump(); }));
  // Fails on text.
  EXPECT_TRUE(needs_object_arguments([&](const Json& m) -> Result<std::string> {
    if (!arguments(m).is_object()) return fail(ErrorKind::kInvalidArgument, "not a mapping");
    return arguments(m).dump();
  }));
  // Leaves text out.
  EXPECT_TRUE(needs_object_arguments([&](const Json& m) -> Result<std::string> {
    return arguments(m).is_object() ? arguments(m).dump() : "";
  }));
  // Knows no tool calls at all.
  EXPECT_FALSE(needs_object_arguments([](const Json&) -> Result<std::string> { return "hi"; }));
}

}  // namespace
}  // namespace packmule::api
