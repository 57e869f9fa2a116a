// Finite automata over bytes, whose edges may also call rules: with edges for bytes only, what a regular
// expression is; with calls, the right side of a grammar's rule.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace packmule::grammar {

struct ByteEdge {
  uint8_t first = 0;  // both included
  uint8_t last = 0;
  uint32_t to = 0;
  bool operator==(const ByteEdge&) const = default;
};
struct CallEdge {
  uint32_t call = 0;  // what it stands for is the owner's business
  uint32_t to = 0;
  bool operator==(const CallEdge&) const = default;
};

/// Starts in state 0. Deterministic for bytes and for calls (a state may have both kinds), but for those that
/// without_empty_edges makes.
struct Dfa {
  struct State {
    std::vector<ByteEdge> bytes;  // ascending by their first bytes
    std::vector<CallEdge> calls;  // ascending
    bool final = false;
    bool operator==(const State&) const = default;
  };
  std::vector<State> states;  // at least one
};

struct Nfa {
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    std::vector<uint32_t> empty;  // states reached without a byte
  };
  std::vector<State> states;

  uint32_t add_state() {
    states.emplace_back();
    return static_cast<uint32_t>(states.size() - 1);
  }
  void byte(uint32_t from, uint8_t first, uint8_t last, uint32_t to) {
    states[from].bytes.push_back({first, last, to});
  }
  void empty(uint32_t from, uint32_t to) { states[from].empty.push_back(to); }
  void text(uint32_t from, std::string_view bytes, uint32_t to);
  /// The characters from `first` to `last`, which hold no surrogates, in UTF-8.
  void characters(uint32_t from, uint32_t first, uint32_t last, uint32_t to);
  /// What `dfa` accepts.
  void automaton(uint32_t from, const Dfa& dfa, uint32_t to);
};

/// How much building may cost. What is counted are states, edges and members of subsets, so that the time is
/// bounded as well: a few seconds for all of it.
struct Effort {
  int64_t left = 12'000'000;
  [[nodiscard]] bool spend(int64_t n) { return (left -= n) >= 0; }
  [[nodiscard]] static tl::unexpected<Error> exceeded();
};

/// The automaton that accepts what leads from `start` to `end`. States from which no end can be reached are
/// left out if that is known without knowing the rules; small ones are minimal.
[[nodiscard]] Result<Dfa> determinize(const Nfa& nfa, uint32_t start, uint32_t end, Effort& effort);

/// The same automaton without edges that read nothing, otherwise as it is: where making it deterministic
/// takes too many states.
[[nodiscard]] Result<Dfa> without_empty_edges(const Nfa& nfa, uint32_t start, uint32_t end, Effort& effort);

/// What both accept. Deterministic ones for bytes only.
[[nodiscard]] Result<Dfa> intersect(const Dfa& a, const Dfa& b, Effort& effort);

/// Texts in which nothing that `forbidden` accepts occurs anywhere: `forbidden` must lead from state 0 to
/// `end`. Any bytes; every such text and every beginning of one is accepted.
[[nodiscard]] Result<Dfa> texts_without(Nfa forbidden, uint32_t end, Effort& effort);

/// Keeps the states that are on a way from the start to a final one, in the order of a walk from the start.
void trim(Dfa& dfa);

/// Accepts nothing at all.
[[nodiscard]] bool is_empty(const Dfa& dfa);

}  // namespace packmule::grammar
