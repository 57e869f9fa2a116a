#include "api/completions.h"

#include "api/completion_answer.h"
#include "api/completion_request.h"
#include "api/llama_answer.h"

namespace packmule::api {
namespace {

/// What the answers are held to.
ApiResult<void> constrain(Backend& backend, CompletionRequest& request) {
  if (!request.output.constrains_text()) return {};
  OutputGrammars* grammars = backend.output_grammars();
  if (grammars == nullptr)
    return refuse_field(request.output.field, "constrained output is not supported here");
  API_TRY(const OutputGrammars::Made made, grammars->get(request.output, nullptr, false, {}));
  request.generation.constraint = grammar::constraint(made.grammar);
  return {};
}

/// The answers to the first prompt, then those to the second, and so on.
AnswerJob job_of(const CompletionRequest& request) {
  AnswerJob job{.form = {.split_reasoning = false}, .stream = request.streaming.stream};
  for (const Prompt& prompt : request.prompts) {
    engine::Request generation = request.generation;
    generation.prompt = prompt.tokens;
    for (engine::Request& one : repeated(std::move(generation), request.n))
      job.generations.push_back(std::move(one));
  }
  return job;
}

}  // namespace

ApiResult<AnswerJob> prepare_completion(Backend& backend, const Json& body) {
  API_TRY(CompletionRequest request, parse_completion_request(backend, body));
  API_TRY_STATUS(constrain(backend, request));
  AnswerJob job = job_of(request);
  const bool with_logprobs = request.generation.n_logprobs >= 0;
  job.form.with_tokens = with_logprobs;
  CompletionAnswerForm form{.n_per_prompt = static_cast<size_t>(request.n),
                            .streaming = request.streaming,
                            .with_logprobs = with_logprobs};
  if (request.echo)
    for (const Prompt& prompt : request.prompts)
      form.echoed.insert(form.echoed.end(), form.n_per_prompt, prompt.text);
  job.writer = std::make_unique<CompletionAnswer>(backend, std::move(form));
  return job;
}

ApiResult<AnswerJob> prepare_llama_completion(Backend& backend, const Json& body) {
  API_TRY(CompletionRequest request, parse_llama_request(backend, body));
  API_TRY_STATUS(constrain(backend, request));
  AnswerJob job = job_of(request);
  job.form.with_tokens = true;
  job.writer = std::make_unique<LlamaAnswer>(backend, std::move(request));
  return job;
}

}  // namespace packmule::api
