#include "api/openai_json.h"

#include <algorithm>
#include <chrono>

namespace packmule::api {
namespace {

Json token_json(const Backend& backend, const engine::TokenLogprob& token) {
  const std::string_view bytes = backend.token_bytes(token.id);
  Json numbers = Json::array();
  for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
  return {{"id", token.id},
          {"token", std::string(bytes)},
          {"bytes", std::move(numbers)},
          {"logprob", finite_logprob(token.logprob)}};
}

}  // namespace

engine::Statistics sum_of(const std::vector<Ending>& endings, size_t n_per_prompt) {
  engine::Statistics sum;
  for (size_t i = 0; i < endings.size(); ++i) {
    const engine::Statistics& s = endings[i].statistics;
    if (i % n_per_prompt == 0) {
      sum.prompt_tokens += s.prompt_tokens;
      sum.cached_tokens += s.cached_tokens;
    }
    sum.generated_tokens += s.generated_tokens;
    sum.prompt_ms += s.prompt_ms;
    sum.generate_ms += s.generate_ms;
  }
  return sum;
}

Json usage_json(const std::vector<Ending>& endings, size_t n_per_prompt) {
  const engine::Statistics s = sum_of(endings, n_per_prompt);
  int64_t reasoning = 0;
  for (const Ending& ending : endings) reasoning += ending.reasoning_tokens;
  return {{"prompt_tokens", s.prompt_tokens},
          {"completion_tokens", s.generated_tokens},
          {"total_tokens", s.prompt_tokens + s.generated_tokens},
          {"prompt_tokens_details", {{"cached_tokens", s.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", reasoning}}}};
}

Json timings_json(const engine::Statistics& s) {
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

Json progress_json(int64_t done, const engine::Statistics& so_far) {
  return {{"total", so_far.prompt_tokens},
          {"cache", so_far.cached_tokens},
          {"processed", done},
          {"time_ms", so_far.prompt_ms}};
}

std::string_view finish_reason(Ended ended) {
  switch (ended) {
    case Ended::kLength:
      return "length";
    case Ended::kCalls:
      return "tool_calls";
    case Ended::kByModel:
    case Ended::kStopString:
      break;
  }
  return "stop";
}

double finite_logprob(float logprob) {
  return std::max(double{logprob}, -9999.0);
}

Json logprobs_json(const Backend& backend, const std::vector<AnswerToken>& tokens) {
  Json out = Json::array();
  for (const AnswerToken& token : tokens) {
    if (token.logprobs.empty()) continue;
    Json entry = token_json(backend, token.logprobs[0]);
    Json top = Json::array();
    for (size_t i = 1; i < token.logprobs.size(); ++i) top.push_back(token_json(backend, token.logprobs[i]));
    entry["top_logprobs"] = std::move(top);
    out.push_back(std::move(entry));
  }
  return out;
}

int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace packmule::api
