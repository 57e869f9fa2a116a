// The parts JSON texts are made of, as rules of a source, each made once.
//
// White space between the parts of a text: none, one space, or one or two line breaks with up to 64 spaces or
// tabs behind them. That is llama.cpp's choice (with room for deeper indentation): models write what they
// know, one line or indented, and cannot write white space for ever.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "grammar/expression.h"

namespace packmule::grammar {

class JsonRules {
 public:
  explicit JsonRules(Source& source) : source_(source) {}

  [[nodiscard]] Source& source() { return source_; }

  Expr space();
  Expr string();     // with its quotes
  Expr character();  // one character of a string, however it is written; a rule
  Expr number();
  Expr integer();
  Expr value();  // of any type
  Expr any_object();
  Expr any_array();
  /// A key that is none of these, with its quotes. It escapes only what must be escaped, so that it cannot be
  /// one of them written in another way.
  Expr key_except(const std::vector<std::string>& keys);
  /// How characters of a set are written in a string: as they are, or with the shortest escape. All
  /// characters together: in any way.
  Expr written(const CharSet& set);
  /// Exactly this value, white space apart.
  Expr literal(const Json& value);
  /// "[" items separated by commas "]" and "{" ... "}" with white space in between.
  Expr listed(char open, Expr item, int64_t min, int64_t max, char close);
  Expr comma();  // with white space around it
  Expr colon();

 private:
  Expr rule(std::optional<RuleId>& id, const char* name, Expr (JsonRules::*make)());
  Expr make_space();
  Expr make_string_rest();
  Expr make_character();
  Expr make_value();
  Expr make_object();
  Expr make_array();
  Expr digits(int64_t min);

  Source& source_;
  std::optional<RuleId> space_, string_rest_, character_, value_, object_, array_;
};

/// As it stands in a JSON text.
[[nodiscard]] std::string json_of(const Json& value);

}  // namespace packmule::grammar
