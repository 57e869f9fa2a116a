#include "api/completion_answer.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/json_text.h"
#include "api/openai_json.h"
#include "api/random_id.h"
#include "base/utf8.h"

namespace packmule::api {
namespace {

size_t n_characters(std::string_view utf8) {
  return static_cast<size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// A token as a name among others: its text, or its bytes, as OpenAI writes those that are none.
std::string name_of(std::string_view bytes) {
  if (is_valid_utf8(bytes)) return std::string(bytes);
  std::string out = "bytes:";
  for (const char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

}  // namespace

CompletionAnswer::CompletionAnswer(const Backend& backend, CompletionAnswerForm form)
    : backend_(backend), form_(std::move(form)), id_(random_id("cmpl-", 32)), created_(seconds_now()) {}

Json CompletionAnswer::object(Json choices) const {
  return {{"id", id_},
          {"object", "text_completion"},
          {"created", created_},
          {"model", backend_.info().name},
          {"choices", std::move(choices)}};
}

Json CompletionAnswer::choice(size_t index, std::string text) const {
  return {{"text", std::move(text)}, {"index", index}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
}

Json CompletionAnswer::logprobs(const std::vector<AnswerToken>& tokens, size_t& offset) const {
  Json names = Json::array(), values = Json::array(), top = Json::array(), offsets = Json::array();
  for (const AnswerToken& token : tokens) {
    if (token.logprobs.empty()) continue;
    const std::string_view bytes = backend_.token_bytes(token.id);
    names.push_back(name_of(bytes));
    values.push_back(finite_logprob(token.logprobs[0].logprob));
    Json likeliest = Json::object();
    for (size_t i = 1; i < token.logprobs.size(); ++i)
      likeliest[name_of(backend_.token_bytes(token.logprobs[i].id))] =
          finite_logprob(token.logprobs[i].logprob);
    top.push_back(std::move(likeliest));
    offsets.push_back(offset);
    offset += n_characters(bytes);
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(top)},
          {"text_offset", std::move(offsets)}};
}

Json CompletionAnswer::whole(const std::vector<WholeAnswer>& answers) {
  Json choices = Json::array();
  std::vector<Ending> endings;
  for (const WholeAnswer& answer : answers) {
    const size_t index = endings.size();
    std::string text = form_.echoed.empty() ? std::string() : form_.echoed[index];
    std::vector<AnswerToken> tokens;
    for (const AnswerPart& part : answer.parts) {
      text += part.text;
      tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    }
    Json entry = choice(index, std::move(text));
    size_t offset = 0;
    if (form_.with_logprobs) entry["logprobs"] = logprobs(tokens, offset);
    entry["finish_reason"] = finish_reason(answer.ending.ended);
    choices.push_back(std::move(entry));
    endings.push_back(answer.ending);
  }
  Json out = object(std::move(choices));
  out["usage"] = usage_json(endings, form_.n_per_prompt);
  out["timings"] = timings_json(sum_of(endings, form_.n_per_prompt));
  return out;
}

std::string CompletionAnswer::begin(size_t) {
  std::string out;
  for (size_t i = 0; i < form_.echoed.size(); ++i)
    out += sse_event(object(Json::array({choice(i, form_.echoed[i])})));
  return out;
}

std::string CompletionAnswer::reading(size_t index, int64_t done, const engine::Statistics& so_far) {
  if (!form_.streaming.progress) return {};
  Json out = object(Json::array({choice(index, "")}));
  out["prompt_progress"] = progress_json(done, so_far);
  return sse_event(out);
}

std::string CompletionAnswer::part(size_t index, const AnswerPart& part) {
  if (index != choice_) {
    choice_ = index;
    offset_ = 0;
  }
  Json entry = choice(index, part.text);
  if (form_.with_logprobs) entry["logprobs"] = logprobs(part.tokens, offset_);
  Json out = object(Json::array({std::move(entry)}));
  if (form_.streaming.timings) out["timings"] = timings_json(part.so_far);
  return sse_event(out);
}

std::string CompletionAnswer::end(size_t index, const Ending& ending) {
  Json entry = choice(index, "");
  entry["finish_reason"] = finish_reason(ending.ended);
  Json out = object(Json::array({std::move(entry)}));
  if (!form_.streaming.usage) out["timings"] = timings_json(ending.statistics);
  return sse_event(out);
}

std::string CompletionAnswer::finish(const std::vector<Ending>& endings) {
  std::string out;
  if (form_.streaming.usage) {
    Json last = object(Json::array());
    last["usage"] = usage_json(endings, form_.n_per_prompt);
    last["timings"] = timings_json(sum_of(endings, form_.n_per_prompt));
    out = sse_event(last);
  }
  return out += kSseDone;
}

std::string CompletionAnswer::failed(const ApiError& error) {
  return sse_event(error.json());
}

}  // namespace packmule::api
