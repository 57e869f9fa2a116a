// What grammars are made of before they are compiled: expressions over bytes and characters, and rules that
// name them. GBNF, regular expressions and JSON Schemas all become this.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/automaton.h"

namespace packmule::grammar {

struct CharRange {  // code points, both included
  uint32_t first = 0;
  uint32_t last = 0;
};
using CharSet = std::vector<CharRange>;

inline constexpr uint32_t kLastChar = 0x10ffff;

/// Sorted, without overlaps, without surrogates (which are no characters).
[[nodiscard]] CharSet normalized(CharSet set);
/// All other characters.
[[nodiscard]] CharSet complement(CharSet set);
[[nodiscard]] CharSet intersection(const CharSet& a, const CharSet& b);
[[nodiscard]] bool contains(const CharSet& set, uint32_t c);
[[nodiscard]] std::string utf8_of(uint32_t c);

using Expr = uint32_t;  // valid for the Source that made it
using RuleId = uint32_t;
inline constexpr int64_t kUnlimited = -1;

/// How a rule is compiled. It makes no difference to what is matched.
enum class RuleKind {
  kInlined,   // where that is small or it is used once
  kSeparate,  // on its own: its token masks are shared by all its uses, and by all grammars that have it
};

class Source {
 public:
  enum class Kind { kText, kChars, kAutomaton, kSequence, kChoice, kRepeat, kRule, kGraph };
  struct Edge {  // of a graph
    uint32_t from = 0, to = 0;
    Expr label = 0;
  };
  struct Node {
    Kind kind = Kind::kText;
    std::string text;            // kText: bytes; "" matches the empty text
    CharSet chars;               // kChars: one of them, in UTF-8
    Dfa automaton;               // kAutomaton: what it accepts; no calls in it
    std::vector<Expr> children;  // kSequence, kChoice (none: matches nothing at all), kRepeat (one)
    int64_t min = 0, max = 0;    // kRepeat
    RuleId rule = 0;             // kRule
    std::vector<Edge> edges;     // kGraph: what stands along a way from place 0 to place 1
    uint32_t n_places = 0;
  };
  struct Rule {
    std::string name;  // for messages
    RuleKind kind = RuleKind::kInlined;
    bool defined = false;
    Expr body = 0;
  };

  Expr text(std::string_view bytes);
  Expr chars(CharSet set);
  Expr automaton(Dfa dfa);
  Expr sequence(std::vector<Expr> parts);
  Expr choice(std::vector<Expr> parts);
  Expr repeat(Expr what, int64_t min, int64_t max);
  Expr optional(Expr what) { return repeat(what, 0, 1); }
  Expr rule(RuleId id);
  Expr graph(uint32_t n_places, std::vector<Edge> edges);

  /// Until it is defined, it matches nothing at all.
  RuleId add_rule(std::string name, RuleKind kind = RuleKind::kInlined);
  void define(RuleId id, Expr body);

  [[nodiscard]] const Node& node(Expr e) const { return nodes_[e]; }
  [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }
  [[nodiscard]] size_t n_nodes() const { return nodes_.size(); }

 private:
  Expr add(Node node);
  std::vector<Node> nodes_;
  std::vector<Rule> rules_;
};

}  // namespace packmule::grammar
