#include "api/error.h"

#include "api/json_text.h"

namespace packmule::api {

Json ApiError::json() const {
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  Json error = {
      {"message", message}, {"type", type}, {"param", text_or_null(param)}, {"code", text_or_null(code)}};
  if (details.is_object()) error.update(details);
  return Json{{"error", std::move(error)}};
}

HttpResponse ApiError::response() const {
  HttpResponse out = json_response(json(), status);
  out.headers.insert(out.headers.end(), headers.begin(), headers.end());
  return out;
}

ApiError bad_field(std::string param, std::string message) {
  return {.message = std::move(message), .param = std::move(param)};
}

ApiError from_error(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalidArgument:
      return {.message = error.message};
    case ErrorKind::kUnsupported:
      return {.message = error.message, .code = "unsupported"};
    case ErrorKind::kCancelled:
      return {.status = 503, .type = "unavailable_error", .message = error.message, .code = "cancelled"};
    case ErrorKind::kOutOfMemory:
      return {.status = 503, .type = "unavailable_error", .message = error.message, .code = "out_of_memory"};
    case ErrorKind::kInvalidFile:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return {.status = 500, .type = "server_error", .message = error.message, .code = "internal_error"};
}

}  // namespace packmule::api
