// A compiled grammar: every rule an automaton whose edges are bytes and calls of rules.
//
// Matching is what the machine does (machine.h); a grammar itself knows no vocabulary and never changes, so
// that it can be shared by all threads. Rules that call themselves must do so behind at least one byte: left
// recursion is refused, with the names of the rules. What could never be completed is taken out when the
// grammar is compiled, so that no state is a dead end.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "grammar/automaton.h"
#include "grammar/expression.h"

namespace packmule::grammar {

class Grammar {
 public:
  /// A call of a rule, maybe of so many in a row. Rules match the empty text only through the edges around
  /// their calls, never by being called.
  struct Call {
    uint32_t rule = 0;
    int64_t min = 1;
    int64_t max = 1;  // kUnlimited: none
    [[nodiscard]] bool counted() const { return min != 1 || max != 1; }
  };
  struct Rule {
    std::string name;
    uint32_t start = 0;  // its first state; all of them are neighbours
    uint32_t n_states = 0;
    uint32_t rank = 0;           // rules that begin by calling others have a lower rank than those
    bool calls_nothing = false;  // only byte edges
    bool prefix_free = false;    // calls_nothing, and nothing it matches goes on as something else it matches
  };
  struct State {
    uint32_t rule = 0;
    uint32_t bytes_begin = 0, bytes_end = 0;  // into byte_edges
    uint32_t calls_begin = 0, calls_end = 0;  // into call_edges
    bool final = false;
  };

  /// The error names the rule that is at fault.
  static Result<std::shared_ptr<const Grammar>> compile(const Source& source, RuleId root, Effort& effort);

  [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }
  [[nodiscard]] const State& state(uint32_t s) const { return states_[s]; }
  [[nodiscard]] size_t n_states() const { return states_.size(); }
  [[nodiscard]] const Call& call(uint32_t c) const { return calls_[c]; }
  [[nodiscard]] std::span<const ByteEdge> byte_edges(const State& s) const {
    return std::span(byte_edges_).subspan(s.bytes_begin, s.bytes_end - s.bytes_begin);
  }
  [[nodiscard]] std::span<const CallEdge> call_edges(const State& s) const {
    return std::span(call_edges_).subspan(s.calls_begin, s.calls_end - s.calls_begin);
  }
  [[nodiscard]] uint32_t root() const { return 0; }
  [[nodiscard]] bool accepts_empty() const { return accepts_empty_; }
  /// Of the automaton of a rule that calls nothing: the same for equal rules, whatever grammar they are in.
  [[nodiscard]] std::string fingerprint(uint32_t rule) const;

 private:
  friend class Compiler;
  std::vector<Rule> rules_;  // [0] is the root
  std::vector<State> states_;
  std::vector<ByteEdge> byte_edges_;
  std::vector<CallEdge> call_edges_;
  std::vector<Call> calls_;
  bool accepts_empty_ = false;
};

/// What an expression matches whose rules do not call themselves, as one automaton: repetitions are unrolled,
/// rules are put in their places.
[[nodiscard]] Result<Dfa> automaton_of(const Source& source, Expr e, Effort& effort);

}  // namespace packmule::grammar
