// The tools of a /v1/responses request: functions, and namespaces of functions, as Codex sends the tools of
// its MCP servers ({"type": "namespace", "name", "tools": [functions]}). The model is told of `f` in the
// namespace `n` as one function `n__f`; calls of it are given back, and taken from the history, with both
// names.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "api/error.h"
#include "base/json.h"

namespace packmule::api {

/// The name the model knows a function by; `space` "" for one without a namespace.
[[nodiscard]] std::string flat_name(std::string_view space, std::string_view name);

/// `tools` as chat completions have them. What is neither a function nor a namespace is left out, in
/// namespaces too.
[[nodiscard]] ApiResult<Json> chat_tools_of_responses(const Json& tools);

/// Finds what a call is called at the client.
class NamespacedTools {
 public:
  /// The body of a request.
  explicit NamespacedTools(const Json& request);
  /// {"name"}, and {"namespace"} for a function that is in one.
  [[nodiscard]] Json names(const std::string& flat) const;

 private:
  struct Names {
    std::string space, name;
  };
  std::map<std::string, Names> known_;  // by their flat names
};

}  // namespace packmule::api
