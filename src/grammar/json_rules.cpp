#include "grammar/json_rules.h"

#include <fmt/format.h>

#include <map>

#include "base/utf8.h"

namespace packmule::grammar {
namespace {

const CharSet kHex = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
const CharSet kControl = {{0, 0x1f}};

CharSet plain_chars() {
  return complement({{0, 0x1f}, {'"', '"'}, {'\\', '\\'}});
}

std::string escape_of(uint32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return fmt::format("\\u{:04x}", c);
  }
}

std::vector<uint32_t> code_points(std::string_view utf8) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < utf8.size();) {
    const size_t n = utf8_unit(utf8, i).size_bytes;
    out.push_back(code_point(utf8.substr(i, n)));
    i += n;
  }
  return out;
}

}  // namespace

std::string json_of(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Expr JsonRules::rule(std::optional<RuleId>& id, const char* name, Expr (JsonRules::*make)()) {
  if (!id) {
    id = source_.add_rule(name, RuleKind::kSeparate);  // before the body: it may call itself
    source_.define(*id, (this->*make)());
  }
  return source_.rule(*id);
}

Expr JsonRules::space() {
  return rule(space_, "white space", &JsonRules::make_space);
}
Expr JsonRules::make_space() {
  constexpr int64_t kIndentation = 64;
  const Expr breaks = source_.repeat(source_.text("\n"), 1, 2);
  const Expr indentation = source_.repeat(source_.chars({{' ', ' '}, {'\t', '\t'}}), 0, kIndentation);
  return source_.choice({source_.text(""), source_.text(" "), source_.sequence({breaks, indentation})});
}

Expr JsonRules::comma() {
  return source_.sequence({space(), source_.text(","), space()});
}
Expr JsonRules::colon() {
  return source_.sequence({space(), source_.text(":"), space()});
}

Expr JsonRules::character() {
  return rule(character_, "a character of a string", &JsonRules::make_character);
}
Expr JsonRules::make_character() {
  const auto text = [&](const char* t) { return source_.text(t); };
  const auto set = [&](CharSet s) { return source_.chars(std::move(s)); };
  const auto hex = [&](int n) { return source_.repeat(set(kHex), n, n); };
  const Expr d = set({{'d', 'd'}, {'D', 'D'}});
  const Expr simple = source_.sequence({text("\\"), set({{'"', '"'},
                                                         {'\\', '\\'},
                                                         {'/', '/'},
                                                         {'b', 'b'},
                                                         {'f', 'f'},
                                                         {'n', 'n'},
                                                         {'r', 'r'},
                                                         {'t', 't'}})});
  const Expr not_d = set({{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}});
  const Expr low = source_.sequence({text("\\u"), not_d, hex(3)});
  const Expr below_surrogates = source_.sequence({text("\\u"), d, set({{'0', '7'}}), hex(2)});
  const Expr pair = source_.sequence({text("\\u"), d, set({{'8', '9'}, {'A', 'B'}, {'a', 'b'}}), hex(2),
                                      text("\\u"), d, set({{'C', 'F'}, {'c', 'f'}}), hex(2)});
  return source_.choice({set(plain_chars()), simple, low, below_surrogates, pair});
}

Expr JsonRules::string() {
  return source_.sequence(
      {source_.text("\""), rule(string_rest_, "the rest of a string", &JsonRules::make_string_rest)});
}
Expr JsonRules::make_string_rest() {
  return source_.sequence({source_.repeat(make_character(), 0, kUnlimited), source_.text("\"")});
}

Expr JsonRules::digits(int64_t min) {
  return source_.repeat(source_.chars({{'0', '9'}}), min, kUnlimited);
}

Expr JsonRules::integer() {
  return source_.sequence(
      {source_.optional(source_.text("-")),
       source_.choice({source_.text("0"), source_.sequence({source_.chars({{'1', '9'}}), digits(0)})})});
}

Expr JsonRules::number() {
  const Expr fraction = source_.sequence({source_.text("."), digits(1)});
  const Expr exponent =
      source_.sequence({source_.chars({{'e', 'e'}, {'E', 'E'}}),
                        source_.optional(source_.chars({{'+', '+'}, {'-', '-'}})), digits(1)});
  return source_.sequence({integer(), source_.optional(fraction), source_.optional(exponent)});
}

Expr JsonRules::value() {
  return rule(value_, "a value", &JsonRules::make_value);
}
Expr JsonRules::make_value() {
  return source_.choice({any_object(), any_array(), string(), number(), source_.text("true"),
                         source_.text("false"), source_.text("null")});
}

Expr JsonRules::any_object() {
  return rule(object_, "an object", &JsonRules::make_object);
}
Expr JsonRules::make_object() {
  return listed('{', source_.sequence({string(), colon(), value()}), 0, kUnlimited, '}');
}
Expr JsonRules::any_array() {
  return rule(array_, "an array", &JsonRules::make_array);
}
Expr JsonRules::make_array() {
  return listed('[', value(), 0, kUnlimited, ']');
}

Expr JsonRules::listed(char open, Expr item, int64_t min, int64_t max, char close) {
  const Expr begin = source_.sequence({source_.text({&open, 1}), space()});
  const Expr end = source_.text({&close, 1});
  const Expr none = source_.sequence({begin, end});
  if (max == 0) return min == 0 ? none : source_.choice({});
  const Expr more = source_.repeat(source_.sequence({comma(), item}), min > 0 ? min - 1 : 0,
                                   max == kUnlimited ? kUnlimited : max - 1);
  const Expr some = source_.sequence({item, more, space()});
  return source_.sequence({begin, min == 0 ? source_.optional(some) : some, end});
}

Expr JsonRules::written(const CharSet& set) {
  const CharSet all = normalized(set);
  if (complement(all).empty()) return make_character();
  std::vector<Expr> choices;
  if (CharSet plain = intersection(all, plain_chars()); !plain.empty())
    choices.push_back(source_.chars(std::move(plain)));
  for (const uint32_t c : {uint32_t{'"'}, uint32_t{'\\'}})
    if (contains(all, c)) choices.push_back(source_.text(escape_of(c)));
  for (uint32_t c = 0; c < 0x20; ++c)
    if (contains(all, c)) choices.push_back(source_.text(escape_of(c)));
  return source_.choice(std::move(choices));
}

Expr JsonRules::key_except(const std::vector<std::string>& keys) {
  // A tree of the keys' characters; from every node all other characters lead to a key that is none of them.
  struct Node {
    std::map<uint32_t, size_t> next;
    bool ends = false;
  };
  std::vector<Node> nodes(1);
  for (const std::string& key : keys) {
    size_t at = 0;
    for (const uint32_t c : code_points(key)) {
      const auto found = nodes[at].next.find(c);
      if (found != nodes[at].next.end()) {
        at = found->second;
        continue;
      }
      nodes.emplace_back();
      nodes[at].next[c] = nodes.size() - 1;
      at = nodes.size() - 1;
    }
    nodes[at].ends = true;
  }
  // One character short of everything, so that what needs no escape has none.
  const auto shortest = [&](CharSet set) {
    std::vector<Expr> parts;
    if (CharSet plain = intersection(set, plain_chars()); !plain.empty())
      parts.push_back(source_.chars(std::move(plain)));
    for (const uint32_t c : {uint32_t{'"'}, uint32_t{'\\'}})
      if (contains(set, c)) parts.push_back(source_.text(escape_of(c)));
    for (uint32_t c = 0; c < 0x20; ++c)
      if (contains(set, c)) parts.push_back(source_.text(escape_of(c)));
    return source_.choice(std::move(parts));
  };
  const Expr other = source_.repeat(shortest({{0, kLastChar}}), 0, kUnlimited);
  std::vector<Expr> made(nodes.size());
  // Children come behind their parents.
  for (size_t i = nodes.size(); i-- > 0;) {
    std::vector<Expr> choices;
    CharSet taken;
    for (const auto& [c, child] : nodes[i].next) {
      taken.push_back({c, c});
      choices.push_back(source_.sequence({shortest({{c, c}}), made[child]}));
    }
    choices.push_back(source_.sequence({shortest(complement(taken)), other}));
    if (!nodes[i].ends) choices.push_back(source_.text(""));
    made[i] = source_.choice(std::move(choices));
  }
  const RuleId rest = source_.add_rule("a key that is not declared", RuleKind::kSeparate);
  source_.define(rest, source_.sequence({made[0], source_.text("\"")}));
  return source_.sequence({source_.text("\""), source_.rule(rest)});
}

Expr JsonRules::literal(const Json& value) {
  if (!value.is_structured()) return source_.text(json_of(value));
  const bool object = value.is_object();
  std::vector<Expr> parts{source_.text(object ? "{" : "["), space()};
  bool first = true;
  for (const auto& [key, item] : value.items()) {
    if (!first) parts.push_back(comma());
    first = false;
    if (object) parts.insert(parts.end(), {source_.text(json_of(Json(key))), colon()});
    parts.push_back(literal(item));
  }
  if (!first) parts.push_back(space());
  parts.push_back(source_.text(object ? "}" : "]"));
  return source_.sequence(std::move(parts));
}

}  // namespace packmule::grammar
