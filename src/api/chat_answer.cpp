#include "api/chat_answer.h"

#include "api/json_text.h"
#include "api/openai_json.h"
#include "api/random_id.h"

namespace packmule::api {
namespace {

Json call_json(const AnswerPart& part) {
  return {{"id", part.id}, {"type", "function"}, {"function", {{"name", part.text}, {"arguments", ""}}}};
}

Json message_json(const std::vector<AnswerPart>& parts) {
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
        calls.push_back(call_json(part));
        break;
      case AnswerPart::Kind::kArguments:
        calls.back()["function"]["arguments"] = part.text;
        break;
    }
  }
  Json message = {{"role", "assistant"}};
  message["content"] = content.empty() && !calls.empty() ? Json(nullptr) : Json(content);
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

}  // namespace

ChatAnswer::ChatAnswer(const Backend& backend, ChatAnswerForm form)
    : backend_(backend), form_(form), id_(random_id("chatcmpl-", 32)), created_(seconds_now()) {}

Json ChatAnswer::whole(const std::vector<WholeAnswer>& answers) {
  Json choices = Json::array();
  std::vector<Ending> endings;
  for (const WholeAnswer& answer : answers) {
    Json logprobs = nullptr;
    if (form_.with_logprobs) {
      logprobs = {{"content", Json::array()}};
      for (const AnswerPart& part : answer.parts)
        for (Json& token : logprobs_json(backend_, part.tokens))
          logprobs["content"].push_back(std::move(token));
    }
    choices.push_back({{"index", endings.size()},
                       {"message", message_json(answer.parts)},
                       {"logprobs", std::move(logprobs)},
                       {"finish_reason", finish_reason(answer.ending.ended)}});
    endings.push_back(answer.ending);
  }
  return {{"id", id_},
          {"object", "chat.completion"},
          {"created", created_},
          {"model", backend_.info().name},
          {"choices", std::move(choices)},
          {"usage", usage_json(endings, form_.n_choices)},
          {"timings", timings_json(sum_of(endings, form_.n_choices))}};
}

Json ChatAnswer::chunk(Json choices) const {
  Json out = {{"id", id_},
              {"object", "chat.completion.chunk"},
              {"created", created_},
              {"model", backend_.info().name},
              {"choices", std::move(choices)}};
  if (form_.streaming.usage) out["usage"] = nullptr;
  return out;
}

Json ChatAnswer::choice(size_t index, Json delta) const {
  return {{"index", index}, {"delta", std::move(delta)}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
}

std::string ChatAnswer::begin(size_t) {
  std::string out;
  for (size_t i = 0; i < form_.n_choices; ++i)
    out += sse_event(chunk(Json::array({choice(i, {{"role", "assistant"}, {"content", ""}})})));
  return out;
}

std::string ChatAnswer::reading(size_t index, int64_t done, const engine::Statistics& so_far) {
  if (!form_.streaming.progress) return {};
  Json out = chunk(Json::array({choice(index, Json::object())}));
  out["prompt_progress"] = progress_json(done, so_far);
  return sse_event(out);
}

std::string ChatAnswer::part(size_t index, const AnswerPart& part) {
  Json delta = Json::object();
  switch (part.kind) {
    case AnswerPart::Kind::kReasoning:
      delta["reasoning_content"] = part.text;
      break;
    case AnswerPart::Kind::kContent:
      delta["content"] = part.text;
      break;
    case AnswerPart::Kind::kCall:
      delta["tool_calls"] = Json::array({call_json(part)});
      delta["tool_calls"][0]["index"] = part.call;
      break;
    case AnswerPart::Kind::kArguments:
      delta["tool_calls"] = Json::array({{{"index", part.call}, {"function", {{"arguments", part.text}}}}});
      break;
  }
  Json entry = choice(index, std::move(delta));
  if (form_.with_logprobs && !part.tokens.empty())
    entry["logprobs"] = {{"content", logprobs_json(backend_, part.tokens)}};
  Json out = chunk(Json::array({std::move(entry)}));
  if (form_.streaming.timings) out["timings"] = timings_json(part.so_far);
  return sse_event(out);
}

std::string ChatAnswer::end(size_t index, const Ending& ending) {
  Json entry = choice(index, Json::object());
  entry["finish_reason"] = finish_reason(ending.ended);
  Json out = chunk(Json::array({std::move(entry)}));
  if (!form_.streaming.usage) out["timings"] = timings_json(ending.statistics);
  return sse_event(out);
}

std::string ChatAnswer::finish(const std::vector<Ending>& endings) {
  std::string out;
  if (form_.streaming.usage) {
    Json last = chunk(Json::array());
    last["usage"] = usage_json(endings, form_.n_choices);
    last["timings"] = timings_json(sum_of(endings, form_.n_choices));
    out = sse_event(last);
  }
  return out += kSseDone;
}

std::string ChatAnswer::failed(const ApiError& error) {
  return sse_event(error.json());
}

}  // namespace packmule::api
