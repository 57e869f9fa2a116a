// Prompts without a conversation: from the request to what is generated for it.
#pragma once

#include "api/answer_job.h"
#include "api/backend.h"

namespace packmule::api {

/// POST /v1/completions.
[[nodiscard]] ApiResult<AnswerJob> prepare_completion(Backend& backend, const Json& body);

/// llama-server's POST /completion.
[[nodiscard]] ApiResult<AnswerJob> prepare_llama_completion(Backend& backend, const Json& body);

}  // namespace packmule::api
