// A regular expression of the command line, looked for in names of tensors.
//
// llama.cpp's users write -ot patterns for std::regex_search with the ECMAScript grammar. Those that are seen
// in the wild mean the same to PCRE2, which is used here because it can be bounded: a pattern comes from
// whoever wrote the command down, and (a*)*b would keep std::regex busy for ever. Set up as ECMAScript has
// it: $ is the end of the name and nothing else, [] matches nothing, an unset group matches the empty text.
// What PCRE2 knows beyond it (lookbehind, possessive quantifiers) works too; docs/placement.md lists it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule::placement {

/// Immutable; copies share what was compiled.
class Pattern {
 public:
  static constexpr size_t kMaxBytes = 4096;

  /// An error names the byte where the pattern is wrong.
  static Result<Pattern> compile(std::string_view text);

  [[nodiscard]] const std::string& text() const { return text_; }

  /// Whether the pattern is found anywhere in `name`. An error when that takes more than kMaxSteps.
  [[nodiscard]] Result<bool> found_in(std::string_view name) const;

 private:
  /// Of the matcher; patterns that people write need some hundred for a name.
  static constexpr uint32_t kMaxSteps = 50'000;

  Pattern(std::string text, std::shared_ptr<const void> code)
      : text_(std::move(text)), code_(std::move(code)) {}
  std::string text_;
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace packmule::placement
