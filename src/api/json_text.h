// JSON on its way out.
#pragma once

#include <string>
#include <string_view>

#include "api/http.h"
#include "base/json.h"

namespace packmule::api {

/// One line. Bytes that are not UTF-8 (pieces of a token) become U+FFFD, never an exception.
[[nodiscard]] inline std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// As Python writes it, with spaces behind commas and colons: what models were shown in training.
[[nodiscard]] std::string to_spaced_text(const Json& json);

[[nodiscard]] inline HttpResponse json_response(const Json& json, int status = 200) {
  return {.status = status, .headers = {{"Content-Type", "application/json"}}, .body = to_text(json)};
}

/// One server-sent event. JSON on one line holds no newline, so one data line is enough.
[[nodiscard]] inline std::string sse_event(const Json& json) {
  return "data: " + to_text(json) + "\n\n";
}
/// The same with a name, as some dialects want it.
[[nodiscard]] inline std::string sse_event(std::string_view name, const Json& json) {
  return "event: " + std::string(name) + "\ndata: " + to_text(json) + "\n\n";
}
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

}  // namespace packmule::api
