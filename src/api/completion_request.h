// The body of POST /v1/completions (OpenAI's older form) and of POST /completion (llama-server's): a prompt
// as it is, without a template.
#pragma once

#include <string>
#include <vector>

#include "api/backend.h"
#include "api/generation_fields.h"
#include "api/output_grammar.h"

namespace packmule::api {

struct Prompt {
  std::string text;  // as given, or that of the tokens
  std::vector<int32_t> tokens;
};

struct CompletionRequest {
  std::vector<Prompt> prompts;  // at least one
  engine::Request generation;   // all but the prompt
  int64_t n = 1;                // answers to each prompt
  Streaming streaming;
  bool echo = false;           // the text begins with the prompt
  bool return_tokens = false;  // llama-server's: ids beside the text
  OutputForm output;
};

/// A string, an array of token ids, both mixed in one array, or an array of such prompts. Control tokens in
/// strings are recognised, and the one that begins a text is put before a string where the model wants it.
[[nodiscard]] ApiResult<std::vector<Prompt>> read_prompts(const Backend& backend, const Json& prompt);

/// OpenAI's form. What is not set comes from the backend's defaults, 16 tokens from OpenAI's.
[[nodiscard]] ApiResult<CompletionRequest> parse_completion_request(const Backend& backend, const Json& body);

/// llama-server's form.
[[nodiscard]] ApiResult<CompletionRequest> parse_llama_request(const Backend& backend, const Json& body);

}  // namespace packmule::api
