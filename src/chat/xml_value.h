// The text of a parameter of an XML call on its way to JSON.
#pragma once

#include <string>
#include <string_view>

#include "chat/call_output.h"
#include "chat/tool_arguments.h"

namespace packmule::chat {

/// Counts the `<parameter...>` tags that a value itself opens and does not close. `<parameter.../>` opens
/// nothing.
class OpenedInside {
 public:
  void text(std::string_view text);
  /// So many `</parameter>` are part of the value.
  void closed(size_t n) { n_open_ -= n < n_open_ ? n : n_open_; }
  [[nodiscard]] size_t n_open() const { return n_open_; }

 private:
  void next(char c);

  size_t n_open_ = 0;
  size_t n_matched_ = 0;  // bytes of "<parameter"
  bool in_tag_ = false;   // behind it, before the ">"
  char last_ = '\0';
};

/// Takes the raw text between the tags. A newline is held back until something follows it.
class XmlValue {
 public:
  XmlValue(CallOutput& out, const ValueTypes& types) : out_(out), types_(types) {}

  void text(std::string_view raw);
  /// `at_tag`: a closing tag follows, and the newline before it is not part of the value.
  void close(bool at_tag);

  [[nodiscard]] size_t n_open() const { return inside_.n_open(); }
  [[nodiscard]] bool at_line_start() const { return last_ == '\n'; }
  /// So many of the `</parameter>` given to `text` were its own.
  void closed_inside(size_t n) { inside_.closed(n); }

 private:
  void add(std::string_view value);

  CallOutput& out_;
  const ValueTypes& types_;
  OpenedInside inside_;
  std::string held_;     // raw text that may be a newline next to a tag
  std::string whole_;    // of a value whose type is not certain before its end
  bool begun_ = false;   // what follows the opening tag is decided
  bool quoted_ = false;  // the quote of a string is out
  char last_ = '\0';
};

}  // namespace packmule::chat
