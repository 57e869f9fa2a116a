// Errors with a status, in the form that the clients of a dialect expect.
#pragma once

#include <string>
#include <string_view>

#include "api/http.h"
#include "base/json.h"
#include "base/result.h"

namespace packmule::api {

enum class ErrorForm {
  kOpenAi,     // {"error": {"message", "type", "param", "code"}}
  kAnthropic,  // {"type": "error", "error": {"type", "message"}}
};

/// The one that clients of this path expect, whether the path exists or not.
[[nodiscard]] ErrorForm error_form_of(std::string_view path);

struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::string param;      // the field at fault ("messages[0].role"); "" is written as null
  std::string code;       // a word programs can test; "" is written as null
  Headers headers = {};   // further response headers (Allow, Retry-After)
  Json details = Json();  // an object whose entries are added to the error, or null

  [[nodiscard]] Json json(ErrorForm form = ErrorForm::kOpenAi) const;
  [[nodiscard]] HttpResponse response(ErrorForm form = ErrorForm::kOpenAi) const;
};

/// Value or ApiError; PACKMULE_TRY does not fit (its error type differs), API_TRY below does.
template <class T>
using ApiResult = tl::expected<T, ApiError>;

/// A 400 that names the field.
[[nodiscard]] ApiError bad_field(std::string param, std::string message);

/// An error of a lower layer with the status that fits its kind: 400 for what the request caused, 500 and 503
/// for what it did not.
[[nodiscard]] ApiError from_error(const Error& error);

}  // namespace packmule::api

#define API_TRY(declaration, ...) \
  API_TRY_IMPL(PACKMULE_TRY_NAME(api_try_, __LINE__), declaration, __VA_ARGS__)
#define API_TRY_IMPL(name, declaration, ...)                             \
  auto name = (__VA_ARGS__);                                             \
  if (!name.has_value()) return tl::unexpected(std::move(name).error()); \
  declaration = std::move(name).value()
