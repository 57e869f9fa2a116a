#include "chat/xml_value.h"

#include <utility>

namespace packmule::chat {
namespace {

/// Size of the newline that ends `text`: 0, 1 or 2.
size_t newline_at_end(std::string_view text) {
  return text.ends_with("\r\n") ? 2 : text.ends_with('\n') ? 1 : 0;
}

}  // namespace

void OpenedInside::text(std::string_view text) {
  for (const char c : text) next(c);
}

void OpenedInside::next(char c) {
  constexpr std::string_view kTag = "<parameter";
  if (in_tag_) {
    if (c == '>') {
      if (last_ != '/') ++n_open_;
      in_tag_ = false;
    }
  } else if (n_matched_ == kTag.size()) {
    // Not <parameters>.
    in_tag_ = c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '=' || c == '/';
    if (c == '>') ++n_open_;
    n_matched_ = c == '<' ? 1 : 0;
  } else {
    n_matched_ = c == kTag[n_matched_] ? n_matched_ + 1 : c == '<' ? 1 : 0;
  }
  last_ = c;
}

void XmlValue::text(std::string_view raw) {
  if (raw.empty()) return;
  inside_.text(raw);
  last_ = raw.back();
  held_ += raw;
  if (!begun_) {
    if (held_ == "\r") return;
    held_.erase(0, held_.starts_with("\r\n") ? 2 : held_.starts_with('\n') ? 1 : 0);
    begun_ = true;
  }
  const size_t n_held = held_.ends_with('\r') ? 1 : newline_at_end(held_);
  add(std::string_view(held_).substr(0, held_.size() - n_held));
  held_.erase(0, held_.size() - n_held);
}

void XmlValue::close(bool at_tag) {
  if (at_tag) held_.resize(held_.size() - newline_at_end(held_));
  add(held_);
  if (!is_text(types_)) return out_.arguments(argument_json(whole_, types_));
  out_.arguments(quoted_ ? "\"" : "\"\"");
}

void XmlValue::add(std::string_view value) {
  if (value.empty()) return;
  if (!is_text(types_)) {
    whole_ += value;
    return;
  }
  if (!std::exchange(quoted_, true)) out_.arguments("\"");
  out_.arguments(json_escaped(value));
}

}  // namespace packmule::chat
