// Conversations: from a chat request to what is generated for it.
#pragma once

#include "api/answer_job.h"
#include "api/backend.h"
#include "api/chat_request.h"

namespace packmule::api {

/// Renders the template of a request, also for POST /apply-template.
[[nodiscard]] ApiResult<chat::Rendered> render_prompt(Backend& backend, const ChatRequest& request);

/// The tokens of the rendered prompt, with the one that begins a text where the model wants it.
[[nodiscard]] ApiResult<std::vector<int32_t>> prompt_tokens(const Backend& backend,
                                                            const chat::Rendered& prompt);

/// Everything that can be wrong with a conversation is found here: template, tokens, length. The job lacks
/// its writer, and the form of its errors is OpenAI's.
[[nodiscard]] ApiResult<AnswerJob> prepare_conversation(Backend& backend, ChatRequest request);

/// Of the prompt that a chat request makes.
[[nodiscard]] ApiResult<size_t> count_prompt_tokens(Backend& backend, const Json& chat);

/// POST /v1/chat/completions/input_tokens, as llama-server has it.
[[nodiscard]] ApiResult<Json> count_chat_tokens(Backend& backend, const Json& body);

/// {"object": "response.input_tokens", "input_tokens"}: OpenAI's form of such a count.
[[nodiscard]] Json input_tokens_json(size_t n_tokens);

/// POST /v1/chat/completions.
[[nodiscard]] ApiResult<AnswerJob> prepare_chat(Backend& backend, const Json& body);

}  // namespace packmule::api
