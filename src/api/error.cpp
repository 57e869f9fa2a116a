#include "api/error.h"

#include "api/json_text.h"

namespace packmule::api {
namespace {

/// Anthropic's names; its clients look at the status first.
std::string_view anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

ErrorForm error_form_of(std::string_view path) {
  constexpr std::string_view kAnthropicPaths = "/v1/messages";
  if (!path.starts_with(kAnthropicPaths)) return ErrorForm::kOpenAi;
  const std::string_view rest = path.substr(kAnthropicPaths.size());
  return rest.empty() || rest[0] == '/' || rest[0] == '?' ? ErrorForm::kAnthropic : ErrorForm::kOpenAi;
}

Json ApiError::json(ErrorForm form) const {
  if (form == ErrorForm::kAnthropic)
    return {{"type", "error"}, {"error", {{"type", anthropic_type(status)}, {"message", message}}}};
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  Json error = {
      {"message", message}, {"type", type}, {"param", text_or_null(param)}, {"code", text_or_null(code)}};
  if (details.is_object()) error.update(details);
  return Json{{"error", std::move(error)}};
}

HttpResponse ApiError::response(ErrorForm form) const {
  HttpResponse out = json_response(json(form), status);
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
