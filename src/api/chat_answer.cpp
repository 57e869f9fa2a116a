#include "api/chat_answer.h"

#include <chrono>

#include "api/random_id.h"

namespace packmule::api {
namespace {

Json usage(const engine::Statistics& s) {
  return {{"prompt_tokens", s.prompt_tokens},
          {"completion_tokens", s.generated_tokens},
          {"total_tokens", s.prompt_tokens + s.generated_tokens},
          {"prompt_tokens_details", {{"cached_tokens", s.cached_tokens}}}};
}

/// llama-server's figures; prompt_n counts the tokens that were processed, not those found in the cache.
Json timings(const engine::Statistics& s) {
  const int64_t prompt_n = s.prompt_tokens - s.cached_tokens;
  const auto each = [](double ms, int64_t n) { return n > 0 ? ms / static_cast<double>(n) : 0.0; };
  return {{"cache_n", s.cached_tokens},
          {"prompt_n", prompt_n},
          {"prompt_ms", s.prompt_ms},
          {"prompt_per_token_ms", each(s.prompt_ms, prompt_n)},
          {"prompt_per_second", s.prompt_per_second()},
          {"predicted_n", s.generated_tokens},
          {"predicted_ms", s.generate_ms},
          {"predicted_per_token_ms", each(s.generate_ms, s.generated_tokens)},
          {"predicted_per_second", s.generate_per_second()}};
}

Json choice(Json delta, Json reason) {
  return Json::array({{{"index", 0},
                       {"delta", std::move(delta)},
                       {"logprobs", nullptr},
                       {"finish_reason", std::move(reason)}}});
}

}  // namespace

std::string_view finish_reason(engine::FinishReason reason, const AnswerReader& reader) {
  switch (reason) {
    case engine::FinishReason::kLength:
    case engine::FinishReason::kContextFull:
      return "length";
    case engine::FinishReason::kStopString:
      if (reader.cut_in_call()) return "stop";
      break;
    case engine::FinishReason::kEndOfTurn:
    case engine::FinishReason::kCancelled:  // behind the one call that was wanted
      break;
  }
  return reader.any_call() ? "tool_calls" : "stop";
}

ChatAnswer::ChatAnswer(std::string model, bool with_usage)
    : id_(random_id("chatcmpl-", 32)),
      model_(std::move(model)),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      with_usage_(with_usage) {}

Json ChatAnswer::whole(const engine::Outcome& outcome, const AnswerReader& reader,
                       const std::vector<AnswerPart>& parts) const {
  std::string content, reasoning;
  Json calls = Json::array();
  for (const AnswerPart& part : parts) {
    switch (part.kind) {
      case AnswerPart::Kind::kReasoning:
        reasoning += part.text;
        break;
      case AnswerPart::Kind::kContent:
        content += part.text;
        break;
      case AnswerPart::Kind::kCall:
        calls.push_back(
            {{"id", part.id}, {"type", "function"}, {"function", {{"name", part.text}, {"arguments", ""}}}});
        break;
      case AnswerPart::Kind::kArguments:
        calls.back()["function"]["arguments"].get_ref<std::string&>() += part.text;
        break;
    }
  }
  Json message = {{"role", "assistant"}};
  message["content"] = content.empty() && !calls.empty() ? Json(nullptr) : Json(content);
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return {{"id", id_},
          {"object", "chat.completion"},
          {"created", created_},
          {"model", model_},
          {"choices", Json::array({{{"index", 0},
                                    {"message", std::move(message)},
                                    {"logprobs", nullptr},
                                    {"finish_reason", finish_reason(outcome.reason, reader)}}})},
          {"usage", usage(outcome.statistics)},
          {"timings", timings(outcome.statistics)}};
}

Json ChatAnswer::chunk(Json choices) const {
  Json out = {{"id", id_},
              {"object", "chat.completion.chunk"},
              {"created", created_},
              {"model", model_},
              {"choices", std::move(choices)}};
  if (with_usage_) out["usage"] = nullptr;
  return out;
}

Json ChatAnswer::first_chunk() const {
  return chunk(choice({{"role", "assistant"}, {"content", ""}}, nullptr));
}

Json ChatAnswer::part_chunk(const AnswerPart& part) const {
  Json delta = Json::object();
  switch (part.kind) {
    case AnswerPart::Kind::kReasoning:
      delta["reasoning_content"] = part.text;
      break;
    case AnswerPart::Kind::kContent:
      delta["content"] = part.text;
      break;
    case AnswerPart::Kind::kCall:
      delta["tool_calls"] = Json::array({{{"index", part.call},
                                          {"id", part.id},
                                          {"type", "function"},
                                          {"function", {{"name", part.text}, {"arguments", ""}}}}});
      break;
    case AnswerPart::Kind::kArguments:
      delta["tool_calls"] = Json::array({{{"index", part.call}, {"function", {{"arguments", part.text}}}}});
      break;
  }
  return chunk(choice(std::move(delta), nullptr));
}

Json ChatAnswer::finish_chunk(const engine::Outcome& outcome, const AnswerReader& reader) const {
  Json out = chunk(choice(Json::object(), finish_reason(outcome.reason, reader)));
  if (!with_usage_) out["timings"] = timings(outcome.statistics);
  return out;
}

Json ChatAnswer::usage_chunk(const engine::Outcome& outcome) const {
  Json out = chunk(Json::array());
  out["usage"] = usage(outcome.statistics);
  out["timings"] = timings(outcome.statistics);
  return out;
}

}  // namespace packmule::api
