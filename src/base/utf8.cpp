#include "base/utf8.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <iterator>

namespace packmule {
namespace {

/// Length of the ASCII run that starts at `at`, eight bytes a step.
size_t ascii_run(std::string_view text, size_t at) {
  const size_t begin = at;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) ++at;
  return at - begin;
}

bool moves_the_cursor(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

Utf8Unit utf8_unit(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return {Utf8Kind::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Kind::kInvalid, 1};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

  // Only the second byte has bounds that depend on the first; they exclude overlong forms, surrogates and
  // what lies above U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < size; ++i) {
    if (at + i == text.size()) return {Utf8Kind::kUnfinished, i};
    if (byte(at + i) < low || byte(at + i) > high) return {Utf8Kind::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Kind::kCharacter, size};
}

uint32_t code_point(std::string_view character) {
  const auto first = static_cast<uint8_t>(character[0]);
  uint32_t value = character.size() == 1 ? first : first & (0x7fu >> character.size());
  for (const char c : character.substr(1)) value = (value << 6) | (static_cast<uint8_t>(c) & 0x3fu);
  return value;
}

size_t find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (true) {
    at += ascii_run(text, at);
    if (at == text.size()) return at;
    const Utf8Unit unit = utf8_unit(text, at);
    if (unit.kind != Utf8Kind::kCharacter) return at;
    at += unit.size_bytes;
  }
}

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t taken = 0;
  while (taken < text.size()) {
    const Utf8Unit unit = utf8_unit(text, taken);
    const bool character = unit.kind == Utf8Kind::kCharacter;
    const size_t n_bytes = character ? unit.size_bytes : 1;  // of damage, byte by byte
    if (taken + n_bytes > max_bytes) return out + "...";
    const uint32_t c = character ? code_point(text.substr(taken, n_bytes)) : 0;
    if (!character)
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<uint8_t>(text[taken]));
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\\')
      out += "\\\\";
    else if (moves_the_cursor(c))
      out += c < 0x100 ? fmt::format("\\x{:02x}", c) : fmt::format("\\u{:04x}", c);
    else
      out += text.substr(taken, n_bytes);
    taken += n_bytes;
  }
  return out;
}

}  // namespace packmule
