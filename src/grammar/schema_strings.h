// The strings a schema allows: pattern, format, minLength, maxLength.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "grammar/json_rules.h"
#include "grammar/regex.h"

namespace packmule::grammar {

/// How strings stand in the text.
enum class StringForm {
  kJson,  // in quotes, with escapes
  kRaw,   // as they are
};

/// The regular expression of a format of the standard; "" for one that is not among them, which the standard
/// gives no meaning. An error for those that have one but are not supported (idn-email, iri, ...).
[[nodiscard]] Result<std::string_view> format_pattern(std::string_view format);

/// What stands between the quotes for a string schema; it must have at least one of the keywords named above.
/// Lengths count characters.
[[nodiscard]] Result<Expr> string_content(JsonRules& rules, const Json& schema, StringForm form,
                                          Effort& effort);

/// Whether the schema has one of these keywords.
[[nodiscard]] bool limits_strings(const Json& schema);

}  // namespace packmule::grammar
