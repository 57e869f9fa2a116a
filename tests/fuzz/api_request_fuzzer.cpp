// Bytes as the body of a chat request: parsed as the server does, with every check behind it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "api/chat_request.h"
#include "api/error.h"
#include "api/fields.h"
#include "api/json_text.h"
#include "api/messages.h"

using namespace packmule;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const api::HttpRequest http{.method = "POST",
                              .body = std::string(reinterpret_cast<const char*>(data), size)};
  const auto body = api::parse_body(http);
  if (!body) {
    (void)body.error().response();
    return 0;
  }
  const auto request = api::parse_chat_request(*body, {}, 512);
  if (!request) {
    // An error names its cause in one line, whatever the body held.
    const std::string text = request.error().response().body;
    if (request.error().message.empty() || text.find('\n') != std::string::npos) std::abort();
    return 0;
  }
  for (const auto& [id, bias] : request->generation.sampling.logit_bias)
    if (id < 0 || id >= 512) std::abort();
  for (const Json& message : request->messages)
    if (!message.at("content").is_string()) std::abort();
  const auto objects = api::with_object_arguments(request->messages);
  (void)api::to_text(objects ? *objects : objects.error().json());
  return 0;
}
