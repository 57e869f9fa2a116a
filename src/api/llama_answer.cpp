#include "api/llama_answer.h"

#include <algorithm>

#include "api/json_text.h"
#include "api/openai_json.h"
#include "api/random_id.h"

namespace packmule::api {
namespace {

std::string_view stop_type(Ended ended) {
  switch (ended) {
    case Ended::kByModel:
    case Ended::kCalls:
      return "eos";
    case Ended::kStopString:
      return "word";
    case Ended::kLength:
      return "limit";
  }
  return "none";
}

}  // namespace

Json generation_settings_json(const engine::Request& generation, bool stream) {
  const sampling::Params& p = generation.sampling;
  Json bias = Json::array();
  // A token that is forbidden has false where others have a number: JSON knows no infinity.
  for (const auto& [token, value] : p.logit_bias)
    bias.push_back(Json::array({token, value < -1e9f ? Json(false) : Json(value)}));
  return {{"seed", p.seed},
          {"temperature", p.temperature},
          {"top_k", p.top_k},
          {"top_p", p.top_p},
          {"min_p", p.min_p},
          {"repeat_last_n", p.repeat_last_n},
          {"repeat_penalty", p.repeat_penalty},
          {"presence_penalty", p.presence_penalty},
          {"frequency_penalty", p.frequency_penalty},
          {"stop", generation.stop},
          {"max_tokens", generation.max_tokens},
          {"n_predict", generation.max_tokens},
          {"ignore_eos", generation.ignore_eos},
          {"stream", stream},
          {"logit_bias", std::move(bias)},
          {"n_probs", std::max(generation.n_logprobs, 0)},
          {"samplers", Json::array({"penalties", "top_k", "top_p", "min_p", "temperature"})}};
}

LlamaAnswer::LlamaAnswer(const Backend& backend, CompletionRequest request)
    : backend_(backend), request_(std::move(request)), id_(random_id("completion-", 16)) {}

Json LlamaAnswer::answer(size_t index, std::string content, const std::vector<AnswerToken>& tokens) const {
  Json ids = Json::array();
  if (request_.streaming.stream || request_.return_tokens)
    for (const AnswerToken& token : tokens) ids.push_back(token.id);
  Json out = {{"index", index}, {"content", std::move(content)}, {"tokens", std::move(ids)}, {"stop", false}};
  if (request_.generation.n_logprobs >= 0 && !tokens.empty())
    out["completion_probabilities"] = logprobs_json(backend_, tokens);
  return out;
}

void LlamaAnswer::add_ending(size_t index, const Ending& ending, Json& out) const {
  const engine::Statistics& s = ending.statistics;
  engine::Request used = request_.generation;
  used.sampling.seed = ending.seed;
  out["stop"] = true;
  out["model"] = backend_.info().name;
  out["tokens_predicted"] = s.generated_tokens;
  out["tokens_evaluated"] = s.prompt_tokens;
  out["tokens_cached"] = s.cached_tokens;
  out["generation_settings"] = generation_settings_json(used, request_.streaming.stream);
  out["prompt"] = request_.prompts[index / static_cast<size_t>(request_.n)].text;
  out["truncated"] = false;
  out["stop_type"] = stop_type(ending.ended);
  out["stopping_word"] = ending.stop_string;
  out["timings"] = timings_json(s);
}

Json LlamaAnswer::whole(const std::vector<WholeAnswer>& answers) {
  Json out = Json::array();
  for (const WholeAnswer& whole : answers) {
    std::string text;
    std::vector<AnswerToken> tokens;
    for (const AnswerPart& part : whole.parts) {
      text += part.text;
      tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    }
    const size_t index = out.size();
    const bool any_new_line = text.find('\n') != std::string::npos;
    Json entry = answer(index, std::move(text), tokens);
    add_ending(index, whole.ending, entry);
    entry["has_new_line"] = any_new_line;
    out.push_back(std::move(entry));
  }
  return out.size() == 1 ? Json(out[0]) : out;
}

std::string LlamaAnswer::begin(size_t) {
  return {};
}

std::string LlamaAnswer::reading(size_t index, int64_t done, const engine::Statistics& so_far) {
  if (!request_.streaming.progress) return {};
  Json out = answer(index, "", {});
  out["prompt_progress"] = progress_json(done, so_far);
  return sse_event(out);
}

std::string LlamaAnswer::part(size_t index, const AnswerPart& part) {
  if (index != choice_) {
    choice_ = index;
    n_predicted_ = 0;
    any_new_line_ = false;
  }
  n_predicted_ += static_cast<int64_t>(part.tokens.size());
  any_new_line_ = any_new_line_ || part.text.find('\n') != std::string::npos;
  Json out = answer(index, part.text, part.tokens);
  out["tokens_predicted"] = n_predicted_;
  out["tokens_evaluated"] = request_.prompts[index / static_cast<size_t>(request_.n)].tokens.size();
  if (request_.streaming.timings) out["timings"] = timings_json(part.so_far);
  return sse_event(out);
}

std::string LlamaAnswer::end(size_t index, const Ending& ending) {
  Json out = answer(index, "", {});
  add_ending(index, ending, out);
  out["has_new_line"] = any_new_line_;
  return sse_event(out);
}

std::string LlamaAnswer::finish(const std::vector<Ending>&) {
  return {};
}

std::string LlamaAnswer::failed(const ApiError& error) {
  return sse_event(error.json());
}

}  // namespace packmule::api
