#include "api/chat_completions.h"

#include "api/chat_answer.h"
#include "api/fields.h"
#include "api/messages.h"
#include "api/output_grammar.h"
#include "chat/reasoning.h"

namespace packmule::api {
namespace {

/// A prompt of a model that is told not to think: a closed thought stands where the answer begins.
bool ends_with_thought(std::string_view prompt) {
  constexpr std::string_view kClose = "</think>";
  return prompt.substr(0, prompt.find_last_not_of(" \t\r\n") + 1).ends_with(kClose);
}

/// What the answer is held to; no grammar if it is free.
ApiResult<OutputGrammars::Made> output_grammar(Backend& backend, const ChatRequest& request,
                                               std::string_view prompt) {
  const bool asked = request.output.constrains_text() || request.output.calls_required;
  const bool calls = !request.tools.is_null() && backend.writes_tool_calls();
  if (!asked && !calls) return OutputGrammars::Made{};
  OutputGrammars* grammars = backend.output_grammars();
  if (grammars == nullptr) {
    if (!asked) return OutputGrammars::Made{};
    return tl::unexpected(bad_field("response_format", "constrained output is not supported here"));
  }
  AnswerHabits habits = backend.answer_habits(request.kwargs);
  habits.inside_thought = chat::opens_reasoning(prompt);
  habits.thought_is_over = ends_with_thought(prompt);
  return grammars->get(request.output, request.tools, request.parallel_tool_calls, habits);
}

}  // namespace

ApiResult<chat::Rendered> render_prompt(Backend& backend, const ChatRequest& request) {
  Json messages = request.messages;
  if (backend.needs_object_arguments()) {
    API_TRY(messages, with_object_arguments(std::move(messages)));
  }
  auto prompt = backend.apply_template(messages, request.tools, request.kwargs);
  if (!prompt) return tl::unexpected(from_error(prompt.error()));
  return std::move(prompt).value();
}

ApiResult<std::vector<int32_t>> prompt_tokens(const Backend& backend, const chat::Rendered& prompt) {
  auto tokens = backend.tokenize(prompt.text, text::ParseSpecial::kAll, prompt.typed_control);
  if (!tokens) return tl::unexpected(from_error(tokens.error()));
  // Most templates leave the first token of a model that wants one to whoever tokenizes; some write it.
  if (const int32_t bos = backend.bos(); bos >= 0 && (tokens->empty() || tokens->front() != bos))
    tokens->insert(tokens->begin(), bos);
  return std::move(tokens).value();
}

ApiResult<AnswerJob> prepare_conversation(Backend& backend, ChatRequest request) {
  API_TRY(const chat::Rendered prompt, render_prompt(backend, request));
  API_TRY(request.generation.prompt, prompt_tokens(backend, prompt));
  API_TRY_STATUS(add_text_bias(backend, request.text_bias, request.generation.sampling));
  API_TRY_STATUS(check_length(request.generation.prompt.size(), backend.info().n_ctx, "messages"));
  API_TRY(OutputGrammars::Made output, output_grammar(backend, request, prompt.text));
  if (output.grammar) request.generation.constraint = grammar::constraint(output.grammar);
  const bool with_tokens = request.generation.n_logprobs >= 0;
  return AnswerJob{.generations = repeated(std::move(request.generation), request.n),
                   .form = {.split_reasoning = request.split_reasoning,
                            .inside_reasoning = chat::opens_reasoning(prompt.text),
                            .tools = backend.writes_tool_calls() ? std::move(request.tools) : Json(nullptr),
                            .one_call = !request.parallel_tool_calls,
                            .with_tokens = with_tokens},
                   .stream = request.streaming.stream,
                   .warnings = std::move(output.warnings)};
}

ApiResult<size_t> count_prompt_tokens(Backend& backend, const Json& chat) {
  API_TRY(const ChatRequest request, parse_template_request(chat));
  API_TRY(const chat::Rendered prompt, render_prompt(backend, request));
  API_TRY(const std::vector<int32_t> tokens, prompt_tokens(backend, prompt));
  return tokens.size();
}

Json input_tokens_json(size_t n_tokens) {
  return {{"object", "response.input_tokens"}, {"input_tokens", n_tokens}};
}

ApiResult<Json> count_chat_tokens(Backend& backend, const Json& body) {
  API_TRY(const size_t n_tokens, count_prompt_tokens(backend, body));
  return input_tokens_json(n_tokens);
}

ApiResult<AnswerJob> prepare_chat(Backend& backend, const Json& body) {
  API_TRY(ChatRequest request, parse_chat_request(body, backend.default_sampling(), backend.info().n_vocab));
  const ChatAnswerForm form{.n_choices = static_cast<size_t>(request.n),
                            .streaming = request.streaming,
                            .with_logprobs = request.generation.n_logprobs >= 0};
  API_TRY(AnswerJob job, prepare_conversation(backend, std::move(request)));
  job.writer = std::make_unique<ChatAnswer>(backend, form);
  return job;
}

}  // namespace packmule::api
