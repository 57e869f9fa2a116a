// Pieces of JSON that OpenAI's and llama-server's answers share.
#pragma once

#include <string>
#include <vector>

#include "api/answer_writer.h"
#include "api/backend.h"

namespace packmule::api {

/// The figures of all answers: a prompt counts once, as many of them as there are groups of `n_per_prompt`.
[[nodiscard]] engine::Statistics sum_of(const std::vector<Ending>& endings, size_t n_per_prompt);

/// prompt_tokens, completion_tokens, total_tokens and their details.
[[nodiscard]] Json usage_json(const std::vector<Ending>& endings, size_t n_per_prompt);

/// llama-server's figures; prompt_n counts the tokens that were processed, not those found in the cache.
[[nodiscard]] Json timings_json(const engine::Statistics& statistics);

/// llama-server's prompt_progress: of a prompt's `total` tokens so many are `processed`, those of the `cache`
/// included.
[[nodiscard]] Json progress_json(int64_t done, const engine::Statistics& so_far);

/// "length", "tool_calls" or "stop".
[[nodiscard]] std::string_view finish_reason(Ended ended);

/// The tokens of an answer with their log probabilities: {"id", "token", "bytes", "logprob", "top_logprobs"}
/// each. What is impossible has -9999, as JSON has no infinity.
[[nodiscard]] Json logprobs_json(const Backend& backend, const std::vector<AnswerToken>& tokens);

/// Of a log probability, as a JSON number.
[[nodiscard]] double finite_logprob(float logprob);

[[nodiscard]] int64_t seconds_now();  // since 1970

}  // namespace packmule::api
