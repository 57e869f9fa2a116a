// Bytes from outside, shown to a person or used as a name.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace packmule {

/// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] bool is_valid_utf8(std::string_view text);

/// `text` made fit for one line of a terminal or a log: control characters (bidirectional ones too) and bytes
/// that are no UTF-8 become escapes (\n, \x1b, \u202e), a backslash becomes \\, and what goes beyond
/// `max_bytes` of the input is cut at a character and replaced by "...".
[[nodiscard]] std::string printable(std::string_view text, size_t max_bytes = 200);

}  // namespace packmule
