#include "api/anthropic_messages.h"

#include "api/anthropic_answer.h"
#include "api/anthropic_request.h"
#include "api/chat_completions.h"

namespace packmule::api {

ApiResult<AnswerJob> prepare_messages(Backend& backend, const Json& body) {
  if (!body.contains("max_tokens"))
    return tl::unexpected(
        bad_field("max_tokens", "'max_tokens': missing, expected how long the answer may be"));
  API_TRY(const Json chat, chat_from_anthropic(body));
  API_TRY(ChatRequest request, parse_chat_request(chat, backend.default_sampling(), backend.info().n_vocab));
  API_TRY(AnswerJob job, prepare_conversation(backend, std::move(request)));
  job.writer = std::make_unique<AnthropicAnswer>(backend.info().name);
  return job;
}

ApiResult<Json> count_message_tokens(Backend& backend, const Json& body) {
  API_TRY(const Json chat, chat_from_anthropic(body));
  API_TRY(const size_t n_tokens, count_prompt_tokens(backend, chat));
  return Json{{"input_tokens", n_tokens}};
}

}  // namespace packmule::api
