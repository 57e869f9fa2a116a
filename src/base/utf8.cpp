#include "base/utf8.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

namespace packmule {
namespace {

struct Decoded {
  uint32_t code_point = 0;
  size_t n_bytes = 0;  // 0: not UTF-8
};

/// The character at the start of `text`, which is not empty.
Decoded decode_first(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xc2 || first > 0xf4) return {};  // continuation, overlong, or above U+10FFFF
  const size_t n_bytes = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (text.size() < n_bytes) return {};
  uint32_t code_point = first & (0x7fu >> n_bytes);
  for (size_t i = 1; i < n_bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code_point = (code_point << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong = (n_bytes == 3 && code_point < 0x800) || (n_bytes == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (overlong || surrogate || code_point > 0x10ffff) return {};
  return {code_point, n_bytes};
}

bool moves_the_cursor(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t n_bytes = decode_first(text).n_bytes;
    if (n_bytes == 0) return false;
    text.remove_prefix(n_bytes);
  }
  return true;
}

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t taken = 0;
  while (taken < text.size()) {
    const Decoded c = decode_first(text.substr(taken));
    const size_t n_bytes = c.n_bytes == 0 ? 1 : c.n_bytes;
    if (taken + n_bytes > max_bytes) return out + "...";
    if (c.n_bytes == 0)
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<uint8_t>(text[taken]));
    else if (c.code_point == '\n')
      out += "\\n";
    else if (c.code_point == '\t')
      out += "\\t";
    else if (c.code_point == '\\')
      out += "\\\\";
    else if (moves_the_cursor(c.code_point))
      out += c.code_point < 0x100 ? fmt::format("\\x{:02x}", c.code_point)
                                  : fmt::format("\\u{:04x}", c.code_point);
    else
      out += text.substr(taken, n_bytes);
    taken += n_bytes;
  }
  return out;
}

}  // namespace packmule
