#include "base/utf8.h"
#include "text/tokenizer.h"

namespace packmule::text {
namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
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
