// Bytes as the body of a request in each dialect: parsed as the server does, with every check behind it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "api/anthropic_request.h"
#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/error.h"
#include "api/fakes_for_test.h"
#include "api/fields.h"
#include "api/json_text.h"
#include "api/messages.h"
#include "api/responses_request.h"

using namespace packmule;

namespace {

constexpr int64_t kVocabulary = 300;

/// An error names its cause in one line, whatever the body held.
void check_error(const api::ApiError& error, api::ErrorForm form = api::ErrorForm::kOpenAi) {
  const std::string text = error.response(form).body;
  if (error.message.empty() || text.find('\n') != std::string::npos) std::abort();
}

void check_bias(const sampling::Params& params) {
  for (const auto& [id, bias] : params.logit_bias)
    if (id < 0 || id >= kVocabulary) std::abort();
}

void try_chat(const Json& body) {
  const auto request = api::parse_chat_request(body, {}, kVocabulary);
  if (!request) return check_error(request.error());
  check_bias(request->generation.sampling);
  for (const Json& message : request->messages)
    if (!message.at("content").is_string()) std::abort();
  const auto objects = api::with_object_arguments(request->messages);
  (void)api::to_text(objects ? *objects : objects.error().json());
}

void try_completion(const api::ApiResult<api::CompletionRequest>& request) {
  if (!request) return check_error(request.error());
  check_bias(request->generation.sampling);
  if (request->prompts.empty()) std::abort();
  for (const api::Prompt& prompt : request->prompts) {
    if (prompt.tokens.empty()) std::abort();
    for (const int32_t token : prompt.tokens)
      if (token < 0 || token >= kVocabulary) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const api::FakeBackend backend;
  const api::HttpRequest http{.method = "POST",
                              .body = std::string(reinterpret_cast<const char*>(data), size)};
  const auto body = api::parse_body(http);
  if (!body) {
    check_error(body.error());
    return 0;
  }
  try_chat(*body);
  // What a dialect is translated to need not be a correct chat request, but its errors are as good.
  if (const auto chat = api::chat_from_anthropic(*body))
    try_chat(*chat);
  else
    check_error(chat.error(), api::ErrorForm::kAnthropic);
  if (const auto chat = api::chat_from_responses(*body))
    try_chat(*chat);
  else
    check_error(chat.error());
  try_completion(api::parse_completion_request(backend, *body));
  try_completion(api::parse_llama_request(backend, *body));
  return 0;
}
