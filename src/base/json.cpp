#include "base/json.h"

#include <optional>
#include <string>
#include <vector>

namespace packmule {
namespace {

/// What the parser must not be given, with the byte where it is; nullopt when there is nothing of the kind.
/// Brackets and colons inside strings do not count. A scan ahead of the parser, since the parser has no limit
/// of its own.
std::optional<std::string> beyond_limits(std::string_view text, const JsonLimits& limits) {
  std::vector<int64_t> n_members;  // of the open arrays and objects
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
      n_members.push_back(0);
      if (n_members.size() > static_cast<size_t>(limits.max_depth))
        return fmt::format("JSON nested deeper than {} levels at byte {}", limits.max_depth, i);
    } else if (c == ']' || c == '}') {
      if (!n_members.empty()) n_members.pop_back();
    } else if (c == ':' && !n_members.empty() && ++n_members.back() > limits.max_members) {
      return fmt::format("a JSON object with more than {} members at byte {}", limits.max_members, i);
    }
  }
  return std::nullopt;
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what, JsonLimits limits) {
  if (text.size() > limits.max_bytes)
    return fail(ErrorKind::kInvalidArgument, "{}: {} bytes of JSON, at most {} are accepted", what,
                text.size(), limits.max_bytes);
  if (const auto reason = beyond_limits(text, limits))
    return fail(ErrorKind::kInvalidArgument, "{}: {}", what, *reason);
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
