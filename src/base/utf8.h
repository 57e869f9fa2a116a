// UTF-8 by the table of well-formed sequences (Unicode standard, table 3-7): no overlong forms, no
// surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace packmule {

enum class Utf8Kind {
  kCharacter,   // one whole character
  kInvalid,     // bytes no continuation can complete: one U+FFFD
  kUnfinished,  // the text ends inside a character that could still become whole
};

struct Utf8Unit {
  Utf8Kind kind;
  size_t size_bytes;  // at least 1
};

/// The unit that starts at `text[at]`, at < text.size(). An invalid unit is the "maximal subpart" of the
/// Unicode standard, which is also what Python and browsers replace by one U+FFFD.
[[nodiscard]] Utf8Unit utf8_unit(std::string_view text, size_t at);

/// Of one whole character, as utf8_unit() finds it.
[[nodiscard]] uint32_t code_point(std::string_view character);

/// Offset of the first byte that is not part of a whole character, or text.size().
[[nodiscard]] size_t find_invalid_utf8(std::string_view text);

[[nodiscard]] inline bool is_valid_utf8(std::string_view text) {
  return find_invalid_utf8(text) == text.size();
}

/// `text` made fit for one line of a terminal or a log: control characters (bidirectional ones too) and bytes
/// that are no UTF-8 become escapes (\n, \x1b, \u202e), a backslash becomes \\, and what goes beyond
/// `max_bytes` of the input is cut at a character and replaced by "...".
[[nodiscard]] std::string printable(std::string_view text, size_t max_bytes = 200);

}  // namespace packmule
