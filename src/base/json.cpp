#include "base/json.h"

namespace packmule {
namespace {

/// First nesting deeper than `max_depth`, as a byte offset; npos when there is none. Brackets inside strings
/// do not count. A scan ahead of the parser, since the parser has no limit of its own.
size_t too_deep_at(std::string_view text, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) return i;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::string_view::npos;
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what, JsonLimits limits) {
  if (text.size() > limits.max_bytes)
    return fail(ErrorKind::kInvalidArgument, "{}: {} bytes of JSON, at most {} are accepted", what,
                text.size(), limits.max_bytes);
  if (const size_t at = too_deep_at(text, limits.max_depth); at != std::string_view::npos)
    return fail(ErrorKind::kInvalidArgument, "{}: JSON nested deeper than {} levels at byte {}", what,
                limits.max_depth, at);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...": the part after the bracket.
    std::string_view reason = e.what();
    if (const size_t end = reason.find("] "); end != std::string_view::npos) reason.remove_prefix(end + 2);
    return fail(ErrorKind::kInvalidArgument, "{}: not valid JSON: {}", what, reason);
  }
}

}  // namespace packmule
