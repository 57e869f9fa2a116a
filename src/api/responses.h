// OpenAI's Responses: from the request to what is generated for it.
#pragma once

#include "api/answer_job.h"
#include "api/backend.h"

namespace packmule::api {

/// POST /v1/responses.
[[nodiscard]] ApiResult<AnswerJob> prepare_response(Backend& backend, const Json& body);

/// POST /v1/responses/input_tokens.
[[nodiscard]] ApiResult<Json> count_response_tokens(Backend& backend, const Json& body);

}  // namespace packmule::api
