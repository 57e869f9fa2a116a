#include "text/utf8.h"

#include <cstdint>
#include <cstring>

#include "text/tokenizer.h"

namespace packmule::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

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

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Unit unit = utf8_unit(pending_, at);
    if (unit.kind == Utf8Kind::kUnfinished) break;
    if (unit.kind == Utf8Kind::kCharacter)
      out.append(pending_, at, unit.size_bytes);
    else
      out += kReplacement;
    at += unit.size_bytes;
  }
  pending_.erase(0, at);
  return out;
}

std::string Utf8Stream::finish() {
  if (pending_.empty()) return {};
  pending_.clear();  // always the beginning of one character, so one replacement
  return std::string(kReplacement);
}

}  // namespace packmule::text
