#include "api/responses.h"

#include "api/chat_completions.h"
#include "api/responses_answer.h"
#include "api/responses_request.h"

namespace packmule::api {

ApiResult<AnswerJob> prepare_response(Backend& backend, const Json& body) {
  API_TRY(const Json chat, chat_from_responses(body));
  API_TRY(ChatRequest request, parse_chat_request(chat, backend.default_sampling(), backend.info().n_vocab));
  API_TRY(AnswerJob job, prepare_conversation(backend, std::move(request)));
  job.writer = std::make_unique<ResponsesAnswer>(backend, body);
  return job;
}

ApiResult<Json> count_response_tokens(Backend& backend, const Json& body) {
  API_TRY(const Json chat, chat_from_responses(body));
  API_TRY(const size_t n_tokens, count_prompt_tokens(backend, chat));
  return input_tokens_json(n_tokens);
}

}  // namespace packmule::api
