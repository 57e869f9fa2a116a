// Anthropic's dialect: from the request to what is generated for it.
#pragma once

#include "api/answer_job.h"
#include "api/backend.h"

namespace packmule::api {

/// POST /v1/messages.
[[nodiscard]] ApiResult<AnswerJob> prepare_messages(Backend& backend, const Json& body);

/// POST /v1/messages/count_tokens: {"input_tokens"} of the same request.
[[nodiscard]] ApiResult<Json> count_message_tokens(Backend& backend, const Json& body);

}  // namespace packmule::api
