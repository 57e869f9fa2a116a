#include "grammar/expression.h"

#include <algorithm>
#include <utility>

namespace packmule::grammar {

CharSet normalized(CharSet set) {
  constexpr uint32_t kFirstSurrogate = 0xd800, kLastSurrogate = 0xdfff;
  CharSet parts;
  for (CharRange range : set) {
    range.last = std::min(range.last, kLastChar);
    if (range.first > range.last) continue;
    if (range.first < kFirstSurrogate)
      parts.push_back({range.first, std::min(range.last, kFirstSurrogate - 1)});
    if (range.last > kLastSurrogate) parts.push_back({std::max(range.first, kLastSurrogate + 1), range.last});
  }
  std::sort(parts.begin(), parts.end(),
            [](const CharRange& a, const CharRange& b) { return a.first < b.first; });
  CharSet out;
  for (const CharRange& range : parts) {
    if (!out.empty() && range.first <= out.back().last + 1)
      out.back().last = std::max(out.back().last, range.last);
    else
      out.push_back(range);
  }
  return out;
}

CharSet complement(CharSet set) {
  CharSet out;
  uint32_t next = 0;
  for (const CharRange& range : normalized(std::move(set))) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastChar) out.push_back({next, kLastChar});
  return normalized(std::move(out));
}

CharSet intersection(const CharSet& a, const CharSet& b) {
  CharSet both = complement(a);
  const CharSet not_b = complement(b);
  both.insert(both.end(), not_b.begin(), not_b.end());
  return complement(std::move(both));
}

bool contains(const CharSet& set, uint32_t c) {
  return std::any_of(set.begin(), set.end(), [c](const CharRange& r) { return r.first <= c && c <= r.last; });
}

std::string utf8_of(uint32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | c >> 18), tail(12), tail(6), tail(0)};
}

Expr Source::add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<Expr>(nodes_.size() - 1);
}

Expr Source::text(std::string_view bytes) {
  return add({.kind = Kind::kText, .text = std::string(bytes)});
}

Expr Source::chars(CharSet set) {
  return add({.kind = Kind::kChars, .chars = normalized(std::move(set))});
}

Expr Source::automaton(Dfa dfa) {
  return add({.kind = Kind::kAutomaton, .automaton = std::move(dfa)});
}

Expr Source::sequence(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = Kind::kSequence, .children = std::move(parts)});
}

Expr Source::choice(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return add({.kind = Kind::kChoice, .children = std::move(parts)});
}

Expr Source::repeat(Expr what, int64_t min, int64_t max) {
  if (min == 1 && max == 1) return what;
  if (max != kUnlimited && max < min) return choice({});
  return add({.kind = Kind::kRepeat, .children = {what}, .min = min, .max = max});
}

Expr Source::rule(RuleId id) {
  return add({.kind = Kind::kRule, .rule = id});
}

Expr Source::graph(uint32_t n_places, std::vector<Edge> edges) {
  Node node{.kind = Kind::kGraph, .edges = std::move(edges), .n_places = n_places};
  for (const Edge& edge : node.edges) node.children.push_back(edge.label);
  return add(std::move(node));
}

RuleId Source::add_rule(std::string name, RuleKind kind) {
  rules_.push_back({.name = std::move(name), .kind = kind, .body = choice({})});
  return static_cast<RuleId>(rules_.size() - 1);
}

void Source::define(RuleId id, Expr body) {
  rules_[id].defined = true;
  rules_[id].body = body;
}

}  // namespace packmule::grammar
