#include "api/completion_request.h"

#include <fmt/format.h>

#include <algorithm>

namespace packmule::api {
namespace {

constexpr int64_t kOpenAiMaxTokens = 16;

ApiResult<void> add_text(const Backend& backend, const std::string& text, Prompt& out) {
  const auto tokens = backend.tokenize(text, text::ParseSpecial::kAll, {});
  if (!tokens) return tl::unexpected(from_error(tokens.error()));
  const int32_t bos = backend.bos();
  if (out.tokens.empty() && bos >= 0 && (tokens->empty() || tokens->front() != bos))
    out.tokens.push_back(bos);
  out.tokens.insert(out.tokens.end(), tokens->begin(), tokens->end());
  out.text += text;
  return {};
}

ApiResult<Prompt> read_prompt(const Backend& backend, const Json& prompt, const std::string& where) {
  Prompt out;
  const Json parts = prompt.is_array() ? prompt : Json::array({prompt});
  const int64_t n_vocab = backend.info().n_vocab;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string here = prompt.is_array() ? fmt::format("{}[{}]", where, i) : where;
    if (parts[i].is_string()) {
      API_TRY_STATUS(add_text(backend, parts[i].get_ref<const std::string&>(), out));
      continue;
    }
    if (!parts[i].is_number())
      return refuse_field(here, fmt::format("expected a string or token ids, found {}", type_name(parts[i])));
    const auto id = whole_number(parts[i]);
    if (!id || *id < 0 || *id >= n_vocab)
      return refuse_field(here, fmt::format("expected a token id from 0 to {}", n_vocab - 1));
    out.tokens.push_back(static_cast<int32_t>(*id));
    out.text += backend.token_bytes(static_cast<int32_t>(*id));
  }
  if (out.tokens.empty()) return refuse_field(where, "is empty, expected at least one token");
  API_TRY_STATUS(check_length(out.tokens.size(), backend.info().n_ctx, where));
  return out;
}

/// What both forms have in common.
void read_common(Fields& fields, const Backend& backend, CompletionRequest& out) {
  out.generation.sampling = backend.default_sampling();
  refuse_unsupported_samplers(fields);
  read_sampling(fields, out.generation.sampling);
  read_stops(fields, "stop", out.generation.stop);
  read_max_tokens(fields, out.generation.max_tokens);
  read_predict_time(fields, out.generation.max_predict_time);
  TextBias text_bias;
  read_logit_bias(fields, backend.info().n_vocab, out.generation.sampling, text_bias);
  if (auto biased = add_text_bias(backend, text_bias, out.generation.sampling); !biased)
    fields.fail(std::move(biased).error());
  fields.read("ignore_eos", out.generation.ignore_eos);
  read_output_form(fields, nullptr, out.output);
  fields.read("n_cmpl", out.n, 1, kMaxAnswers);  // llama-server's name
  fields.read("n", out.n, 1, kMaxAnswers);
  read_stream(fields, out.streaming);
}

void read_prompt_field(Fields& fields, const Backend& backend, CompletionRequest& out) {
  const Json* prompt = fields.get("prompt");
  if (prompt == nullptr) fields.fail("prompt", "missing");
  if (fields.error()) return;
  auto prompts = read_prompts(backend, *prompt);
  if (!prompts) return fields.fail(std::move(prompts).error());
  out.prompts = std::move(prompts).value();
  if (static_cast<int64_t>(out.prompts.size()) * out.n > kMaxAnswers)
    fields.fail("prompt",
                fmt::format("expected at most {} answers to a request, found {} prompts with {} each",
                            kMaxAnswers, out.prompts.size(), out.n));
}

constexpr Unsupported kUnsupportedOpenAi[] = {
    {"suffix", is_empty,
     "filling in the middle is not supported here, put the model's own tokens in 'prompt'"},
};

constexpr Unsupported kUnsupportedLlama[] = {
    {"post_sampling_probs", is_false, "log probabilities are those of the model, before the samplers"},
    {"samplers", is_empty, "the order of the samplers is fixed"},
    {"image_data", is_empty, "this model reads text only"},
    {"lora", is_empty, "adapters are not supported"},
};

}  // namespace

ApiResult<std::vector<Prompt>> read_prompts(const Backend& backend, const Json& prompt) {
  std::vector<Prompt> out;
  const bool is_one = !prompt.is_array() ||
                      std::any_of(prompt.begin(), prompt.end(), [](const Json& p) { return p.is_number(); });
  if (is_one) {
    API_TRY(Prompt one, read_prompt(backend, prompt, "prompt"));
    out.push_back(std::move(one));
    return out;
  }
  if (prompt.empty()) return refuse_field("prompt", "is empty, expected at least one prompt");
  if (static_cast<int64_t>(prompt.size()) > kMaxAnswers)
    return refuse_field("prompt",
                        fmt::format("expected at most {} prompts, found {}", kMaxAnswers, prompt.size()));
  for (size_t i = 0; i < prompt.size(); ++i) {
    API_TRY(Prompt one, read_prompt(backend, prompt[i], fmt::format("prompt[{}]", i)));
    out.push_back(std::move(one));
  }
  return out;
}

ApiResult<CompletionRequest> parse_completion_request(const Backend& backend, const Json& body) {
  CompletionRequest out;
  out.generation.max_tokens = kOpenAiMaxTokens;
  Fields fields(body);
  refuse_unsupported(fields, kUnsupportedOpenAi);
  read_common(fields, backend, out);
  fields.read("logprobs", out.generation.n_logprobs, 0, kMaxLogprobs);
  fields.read("echo", out.echo);
  if (out.echo && out.generation.n_logprobs >= 0)
    fields.fail("echo", "cannot be had with 'logprobs': there are none for the prompt");
  int64_t best_of = out.n;
  fields.read("best_of", best_of, 1, kMaxAnswers);
  if (best_of != out.n) fields.fail("best_of", "choosing among more answers than 'n' is not supported");
  read_prompt_field(fields, backend, out);
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

ApiResult<CompletionRequest> parse_llama_request(const Backend& backend, const Json& body) {
  CompletionRequest out;
  Fields fields(body);
  refuse_unsupported(fields, kUnsupportedLlama);
  read_common(fields, backend, out);
  int32_t n_probs = 0;
  fields.read("n_probs", n_probs, 0, kMaxLogprobs);
  if (n_probs > 0) out.generation.n_logprobs = n_probs;
  fields.read("return_tokens", out.return_tokens);
  read_prompt_field(fields, backend, out);
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

}  // namespace packmule::api
