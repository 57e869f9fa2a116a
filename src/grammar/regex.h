// The regular expressions of JSON Schema's `pattern`: ECMA 262 without what no automaton can do.
//
// Understood: alternatives, groups ((...), (?:...), (?<name>...)), classes with ranges and \d \w \s \D \W \S,
// `.`, quantifiers (lazy ones too, which match the same), escapes (\t \n \v \f \r \0 \cX \xHH \uHHHH
// \u{...}, punctuation), the anchors ^ and $ at the ends of an alternative. As the standard has it, an
// expression without anchors matches anywhere in the string.
// Refused with the reason: look-around, back-references, \b, \p{...}, anchors inside.
#pragma once

#include <functional>
#include <string_view>

#include "base/result.h"
#include "grammar/expression.h"

namespace packmule::grammar {

/// How a set of characters is written in the text that is matched (in JSON some are escaped).
using WriteChars = std::function<Expr(Source&, const CharSet&)>;

/// All strings in which the pattern is found.
[[nodiscard]] Result<Expr> read_regex(std::string_view pattern, Source& source, const WriteChars& write);

}  // namespace packmule::grammar
