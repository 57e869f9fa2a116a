// JSON from outside: order-preserving, bounded in size and depth, valid UTF-8 only.
//
// The library's own parser and writer recurse without a limit: 400,000 opening brackets overflow the stack
// when the value is printed. Everything that did not come from our own code goes through parse_json.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace packmule {

/// Key order is kept because it ends up in prompts (tool schemas are rendered as text).
using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;
  int max_depth = 64;
  // Of one object. The type that keeps the order of keys searches them one by one, so that reading an object
  // takes the square of its size: a body of the allowed bytes, all of them keys, would take hours.
  int64_t max_members = 4096;
};

/// `what` names the text in errors ("the request body"). A repeated key keeps its last value.
[[nodiscard]] Result<Json> parse_json(std::string_view text, std::string_view what, JsonLimits limits = {});

}  // namespace packmule
