// From expressions to the automata of a grammar.
#include <algorithm>
#include <map>
#include <optional>
#include <queue>
#include <tuple>

#include "grammar/grammar.h"

namespace packmule::grammar {
namespace {

using Kind = Source::Kind;
using Node = Source::Node;

constexpr int64_t kInlinedSize = 16;        // states of a rule that is inlined wherever it is used
constexpr int64_t kInlinedOnceSize = 2000;  // of one that is used once
constexpr int64_t kUnrolledSize = 400;  // states of a repetition that is unrolled; longer ones are counted
constexpr int64_t kDeterminizing = 200'000;  // effort for one rule
constexpr int kInlinedDepth = 40;
constexpr int64_t kHuge = int64_t{1} << 40;

}  // namespace

class Compiler {
 public:
  Compiler(const Source& source, RuleId root, Effort& effort)
      : source_(source), root_(root), effort_(effort) {}

  Result<std::shared_ptr<const Grammar>> run() {
    if (!find_nullable()) return Effort::exceeded();
    find_recursive();
    find_sizes();
    pending_.push_back({.body = source_.rules()[root_].body, .rule = root_});
    rule_number_[root_] = 0;
    for (size_t i = 0; i < pending_.size(); ++i) PACKMULE_TRY_STATUS(build_rule(i));
    PACKMULE_TRY_STATUS(drop_unproductive());
    auto grammar = std::make_shared<Grammar>();
    assemble(*grammar);
    grammar->accepts_empty_ = nullable(source_.rules()[root_].body);
    PACKMULE_TRY_STATUS(rank(*grammar));
    return std::shared_ptr<const Grammar>(std::move(grammar));
  }

  /// Without any rules of its own.
  Result<Dfa> automaton(Expr e) {
    flat_ = true;
    const uint32_t start = nfa_.add_state();
    const uint32_t end = nfa_.add_state();
    if (!build(e, start, end, 0)) return Effort::exceeded();
    return determinize(nfa_, start, end, effort_);
  }

 private:
  /// A rule of the compiled grammar: one of the source, or the body of a counted repetition.
  struct Pending {
    Expr body;
    RuleId rule;  // of the source in which it stands, for messages
  };

  template <class Visit>
  void walk(Expr root, const Visit& visit) const {
    std::vector<Expr> stack{root};
    while (!stack.empty()) {
      const Node& node = source_.node(stack.back());
      stack.pop_back();
      visit(node);
      stack.insert(stack.end(), node.children.begin(), node.children.end());
    }
  }

  /// Children have lower numbers than their parents, so that one pass in order is enough; rules take turns
  /// until nothing changes.
  [[nodiscard]] bool find_nullable() {
    nullable_.assign(source_.n_nodes(), false);
    rule_nullable_.assign(source_.rules().size(), false);
    for (bool changed = true; changed;) {
      changed = false;
      if (!effort_.spend(static_cast<int64_t>(source_.n_nodes()) / 4)) return false;
      for (Expr e = 0; e < source_.n_nodes(); ++e) nullable_[e] = node_nullable(source_.node(e));
      for (size_t r = 0; r < rule_nullable_.size(); ++r) {
        if (rule_nullable_[r] || !nullable_[source_.rules()[r].body]) continue;
        rule_nullable_[r] = true;
        changed = true;
      }
    }
    return true;
  }
  [[nodiscard]] bool node_nullable(const Node& node) const {
    const auto is = [&](Expr e) { return nullable_[e]; };
    switch (node.kind) {
      case Kind::kText:
        return node.text.empty();
      case Kind::kChars:
        return false;
      case Kind::kAutomaton:
        return node.automaton.states[0].final;
      case Kind::kSequence:
        return std::all_of(node.children.begin(), node.children.end(), is);
      case Kind::kChoice:
        return std::any_of(node.children.begin(), node.children.end(), is);
      case Kind::kRepeat:
        return node.min == 0 || is(node.children[0]);
      case Kind::kRule:
        return rule_nullable_[node.rule];
      case Kind::kGraph:
        return graph_nullable(node);
    }
    return false;
  }
  [[nodiscard]] bool graph_nullable(const Node& node) const {
    std::vector<bool> reached(node.n_places, false);
    reached[0] = true;
    for (bool changed = true; changed;) {
      changed = false;
      for (const Source::Edge& edge : node.edges) {
        if (!reached[edge.from] || reached[edge.to] || !nullable_[edge.label]) continue;
        reached[edge.to] = changed = true;
      }
    }
    return reached[1];
  }
  [[nodiscard]] bool nullable(Expr e) const { return nullable_[e]; }

  /// Rules that take part in a cycle of calls, by Tarjan's algorithm without recursion.
  void find_recursive() {
    const size_t n = source_.rules().size();
    std::vector<std::vector<RuleId>> calls(n);
    n_uses_.assign(n, 0);
    for (size_t r = 0; r < n; ++r)
      walk(source_.rules()[r].body, [&](const Node& node) {
        if (node.kind != Kind::kRule) return;
        calls[r].push_back(node.rule);
        ++n_uses_[node.rule];
      });
    recursive_.assign(n, false);
    std::vector<uint32_t> index(n, 0), low(n, 0);
    std::vector<bool> on_stack(n, false);
    std::vector<RuleId> stack;
    uint32_t next_index = 1;
    struct Frame {
      RuleId rule;
      size_t next;
    };
    for (RuleId first = 0; first < n; ++first) {
      if (index[first] != 0) continue;
      std::vector<Frame> frames{{first, 0}};
      while (!frames.empty()) {
        const RuleId r = frames.back().rule;
        if (frames.back().next == 0) {
          index[r] = low[r] = next_index++;
          stack.push_back(r);
          on_stack[r] = true;
        }
        if (frames.back().next < calls[r].size()) {
          const RuleId to = calls[r][frames.back().next++];
          if (to == r) recursive_[r] = true;
          if (index[to] == 0)
            frames.push_back({to, 0});
          else if (on_stack[to])
            low[r] = std::min(low[r], index[to]);
          continue;
        }
        if (low[r] == index[r]) {
          const bool several = stack.back() != r;
          for (bool more = true; more;) {
            const RuleId member = stack.back();
            stack.pop_back();
            on_stack[member] = false;
            if (several) recursive_[member] = true;
            more = member != r;
          }
        }
        frames.pop_back();
        if (!frames.empty()) low[frames.back().rule] = std::min(low[frames.back().rule], low[r]);
      }
    }
  }

  /// Roughly the states an expression takes, with what is inlined. Rules that are not inlined count one, so
  /// every rule has a size after as many rounds as inlining is deep.
  void find_sizes() {
    size_.assign(source_.n_nodes(), 1);
    inlined_.assign(source_.rules().size(), false);
    for (int round = 0; round < kInlinedDepth; ++round) {
      for (Expr e = 0; e < source_.n_nodes(); ++e) size_[e] = std::min(node_size(source_.node(e)), kHuge);
      bool changed = false;
      for (size_t r = 0; r < inlined_.size(); ++r) {
        const Source::Rule& rule = source_.rules()[r];
        const int64_t size = size_[rule.body];
        const bool is = rule.kind == RuleKind::kInlined && !recursive_[r] &&
                        (size <= kInlinedSize || (n_uses_[r] <= 1 && size <= kInlinedOnceSize));
        changed = changed || is != inlined_[r];
        inlined_[r] = is;
      }
      if (!changed) break;
    }
  }
  [[nodiscard]] int64_t node_size(const Node& node) const {
    int64_t size = 0;
    switch (node.kind) {
      case Kind::kText:
        return static_cast<int64_t>(node.text.size());
      case Kind::kChars:
        return node.chars.empty() || node.chars.back().last < 0x80 ? 1 : 4;
      case Kind::kAutomaton:
        return static_cast<int64_t>(node.automaton.states.size());
      case Kind::kSequence:
      case Kind::kChoice:
      case Kind::kGraph:
        for (const Expr e : node.children) size += size_[e];
        return std::min(size + 1, kHuge);
      case Kind::kRepeat: {
        const int64_t times = std::max<int64_t>({node.min, node.max, 1});
        const int64_t child = size_[node.children[0]];
        return is_counted(source_.node(node.children[0]), child, times) ? 2 : child * times + 1;
      }
      case Kind::kRule:
        return inlined_[node.rule] ? size_[source_.rules()[node.rule].body] : 2;
    }
    return 1;
  }

  /// Calls in a row are counted however few they are: one state serves for all of them.
  [[nodiscard]] bool is_counted(const Node& child, int64_t size, int64_t times) const {
    return times > 1 && (times > kUnrolledSize || size * times > kUnrolledSize ||
                         (child.kind == Kind::kRule && !inlined_[child.rule]));
  }

  Status build_rule(size_t number) {
    const Pending pending = pending_[number];
    nfa_ = Nfa();
    const uint32_t start = nfa_.add_state();
    const uint32_t end = nfa_.add_state();
    if (!build(pending.body, start, end, 0)) return named(Effort::exceeded(), pending.rule);
    // Most automata hardly grow by being made deterministic. Those that do may be read as they are.
    const int64_t enough = kDeterminizing + 40 * static_cast<int64_t>(nfa_.states.size());
    Effort some{std::min(effort_.left, enough)};
    const int64_t given = some.left;
    auto dfa = determinize(nfa_, start, end, some);
    effort_.left -= given - std::max<int64_t>(some.left, 0);
    deterministic_.push_back(dfa.has_value());
    if (!dfa) dfa = without_empty_edges(nfa_, start, end, effort_);
    if (!dfa) return named(tl::unexpected<Error>(dfa.error()), pending.rule);
    dfas_.push_back(std::move(*dfa));
    return {};
  }
  tl::unexpected<Error> named(tl::unexpected<Error> error, RuleId rule) const {
    return fail(error.value().kind, "rule '{}': {}", source_.rules()[rule].name, error.value().message);
  }

  [[nodiscard]] bool build(Expr e, uint32_t from, uint32_t to, int depth) {
    const Node& node = source_.node(e);
    if (!effort_.spend(4 + static_cast<int64_t>(node.text.size()))) return false;
    switch (node.kind) {
      case Kind::kText:
        nfa_.text(from, node.text, to);
        return true;
      case Kind::kChars:
        for (const CharRange& range : node.chars) nfa_.characters(from, range.first, range.last, to);
        return effort_.spend(static_cast<int64_t>(node.chars.size()) * 8);
      case Kind::kAutomaton:
        nfa_.automaton(from, node.automaton, to);
        return effort_.spend(static_cast<int64_t>(node.automaton.states.size()) * 4);
      case Kind::kSequence: {
        if (node.children.empty()) {
          nfa_.empty(from, to);
          return true;
        }
        for (size_t i = 0; i < node.children.size(); ++i) {
          const uint32_t next = i + 1 == node.children.size() ? to : nfa_.add_state();
          if (!build(node.children[i], from, next, depth)) return false;
          from = next;
        }
        return true;
      }
      case Kind::kChoice:
        for (const Expr child : node.children)
          if (!build(child, from, to, depth)) return false;
        return true;
      case Kind::kRepeat:
        return build_repeat(node, from, to, depth);
      case Kind::kGraph: {
        std::vector<uint32_t> places{from, to};
        while (places.size() < node.n_places) places.push_back(nfa_.add_state());
        for (const Source::Edge& edge : node.edges)
          if (!build(edge.label, places[edge.from], places[edge.to], depth)) return false;
        return true;
      }
      case Kind::kRule:
        if (flat_ && depth >= kInlinedDepth) return false;
        if (flat_ || (inlined_[node.rule] && depth < kInlinedDepth))
          return build(source_.rules()[node.rule].body, from, to, depth + 1);
        add_call({.rule = number_of(node.rule)}, from, to);
        if (rule_nullable_[node.rule]) nfa_.empty(from, to);
        return true;
    }
    return false;
  }

  [[nodiscard]] bool build_repeat(const Node& node, uint32_t from, uint32_t to, int depth) {
    const Expr child = node.children[0];
    const int64_t times = std::max<int64_t>({node.min, node.max, 1});
    if (!flat_ && is_counted(source_.node(child), size_[child], times)) {
      // Empty repetitions may be as many as one likes.
      const int64_t min = nullable(child) ? 0 : node.min;
      if (min == 0) nfa_.empty(from, to);
      if (node.max == 0) return true;
      add_call({.rule = number_of_body(child), .min = std::max<int64_t>(min, 1), .max = node.max}, from, to);
      return true;
    }
    for (int64_t i = 0; i < node.min; ++i) {
      const uint32_t next = nfa_.add_state();
      if (!build(child, from, next, depth)) return false;
      from = next;
    }
    if (node.max == kUnlimited) {
      const uint32_t loop = nfa_.add_state();
      nfa_.empty(from, loop);
      nfa_.empty(loop, to);
      return build(child, loop, loop, depth);
    }
    for (int64_t i = node.min; i < node.max; ++i) {
      const uint32_t next = nfa_.add_state();
      nfa_.empty(from, to);
      if (!build(child, from, next, depth)) return false;
      from = next;
    }
    nfa_.empty(from, to);
    return true;
  }

  void add_call(const Grammar::Call& call, uint32_t from, uint32_t to) {
    const auto [found, added] =
        call_ids_.try_emplace({call.rule, call.min, call.max}, static_cast<uint32_t>(calls_.size()));
    if (added) calls_.push_back(call);
    nfa_.states[from].calls.push_back({found->second, to});
  }
  uint32_t number_of(RuleId rule) {
    const auto [found, added] = rule_number_.try_emplace(rule, static_cast<uint32_t>(pending_.size()));
    if (added) pending_.push_back({.body = source_.rules()[rule].body, .rule = rule});
    return found->second;
  }
  uint32_t number_of_body(Expr body) {
    const Node& node = source_.node(body);
    if (node.kind == Kind::kRule) return number_of(node.rule);
    const auto [found, added] = body_number_.try_emplace(body, static_cast<uint32_t>(pending_.size()));
    if (added) pending_.push_back({.body = body, .rule = root_});
    return found->second;
  }

  /// Takes out calls of rules that match nothing, and what only they led to.
  Status drop_unproductive() {
    const size_t n = dfas_.size();
    std::vector<bool> productive(n, false);
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t r = 0; r < n; ++r) {
        if (productive[r]) continue;
        if (!effort_.spend(static_cast<int64_t>(dfas_[r].states.size()) / 4 + 1)) return Effort::exceeded();
        if (!reaches_end(dfas_[r], productive)) continue;
        productive[r] = true;
        changed = true;
      }
    }
    if (!productive[0])
      return fail(ErrorKind::kInvalidArgument, "rule '{}' matches no text at all",
                  source_.rules()[root_].name);
    for (Dfa& dfa : dfas_) {
      bool any = false;
      for (Dfa::State& state : dfa.states)
        any = std::erase_if(state.calls,
                            [&](const CallEdge& e) { return !productive[calls_[e.call].rule]; }) > 0 ||
              any;
      if (any) dfa = trimmed(std::move(dfa));
    }
    return {};
  }
  [[nodiscard]] bool reaches_end(const Dfa& dfa, const std::vector<bool>& productive) const {
    std::vector<bool> seen(dfa.states.size(), false);
    std::vector<uint32_t> work{0};
    seen[0] = true;
    while (!work.empty()) {
      const Dfa::State& state = dfa.states[work.back()];
      work.pop_back();
      if (state.final) return true;
      const auto go = [&](uint32_t to) {
        if (!seen[to]) seen[to] = true, work.push_back(to);
      };
      for (const ByteEdge& edge : state.bytes) go(edge.to);
      for (const CallEdge& edge : state.calls)
        if (productive[calls_[edge.call].rule]) go(edge.to);
    }
    return false;
  }

  void assemble(Grammar& grammar) {
    grammar.calls_ = calls_;
    for (size_t r = 0; r < dfas_.size(); ++r) {
      const Dfa& dfa = dfas_[r];
      const auto base = static_cast<uint32_t>(grammar.states_.size());
      Grammar::Rule rule{.name = source_.rules()[pending_[r].rule].name,
                         .start = base,
                         .n_states = static_cast<uint32_t>(dfa.states.size()),
                         .calls_nothing = true,
                         .prefix_free = deterministic_[r]};
      for (const Dfa::State& from : dfa.states) {
        Grammar::State state{.rule = static_cast<uint32_t>(r), .final = from.final};
        state.bytes_begin = static_cast<uint32_t>(grammar.byte_edges_.size());
        for (const ByteEdge& edge : from.bytes)
          grammar.byte_edges_.push_back({edge.first, edge.last, base + edge.to});
        state.bytes_end = static_cast<uint32_t>(grammar.byte_edges_.size());
        state.calls_begin = static_cast<uint32_t>(grammar.call_edges_.size());
        for (const CallEdge& edge : from.calls) grammar.call_edges_.push_back({edge.call, base + edge.to});
        state.calls_end = static_cast<uint32_t>(grammar.call_edges_.size());
        if (!from.calls.empty()) rule.calls_nothing = false;
        if (from.final && !from.bytes.empty()) rule.prefix_free = false;
        grammar.states_.push_back(state);
      }
      rule.prefix_free = rule.prefix_free && rule.calls_nothing && !dfa.states[0].final;
      grammar.rules_.push_back(std::move(rule));
    }
  }

  /// Orders rules by what they may begin with; a cycle is left recursion.
  Status rank(Grammar& grammar) const {
    const size_t n = grammar.rules_.size();
    std::vector<std::vector<uint32_t>> begins(n);
    std::vector<uint32_t> n_callers(n, 0);
    for (size_t r = 0; r < n; ++r)
      for (const CallEdge& edge : grammar.call_edges(grammar.state(grammar.rules_[r].start))) {
        begins[r].push_back(grammar.call(edge.call).rule);
        ++n_callers[begins[r].back()];
      }
    std::queue<uint32_t> free;
    for (uint32_t r = 0; r < n; ++r)
      if (n_callers[r] == 0) free.push(r);
    uint32_t next = 0;
    std::vector<bool> ranked(n, false);
    while (!free.empty()) {
      const uint32_t r = free.front();
      free.pop();
      ranked[r] = true;
      grammar.rules_[r].rank = next++;
      for (const uint32_t callee : begins[r])
        if (--n_callers[callee] == 0) free.push(callee);
    }
    if (next == n) return {};
    // Every rule that is left is called first by another one that is left: going back finds the cycle.
    std::vector<uint32_t> caller(n, 0);
    for (uint32_t r = 0; r < n; ++r)
      if (!ranked[r])
        for (const uint32_t callee : begins[r]) caller[callee] = r;
    uint32_t r = static_cast<uint32_t>(std::find(ranked.begin(), ranked.end(), false) - ranked.begin());
    for (size_t i = 0; i < n; ++i) r = caller[r];
    return fail(ErrorKind::kUnsupported,
                "rule '{}' is left-recursive: it can begin with itself, through '{}'; write the repetition "
                "with * or +",
                grammar.rules_[r].name, grammar.rules_[caller[r]].name);
  }

  static Dfa trimmed(Dfa dfa);

  const Source& source_;
  const RuleId root_;
  Effort& effort_;
  std::vector<bool> nullable_, rule_nullable_, recursive_, inlined_;
  std::vector<int64_t> n_uses_, size_;
  std::vector<Pending> pending_;
  std::map<RuleId, uint32_t> rule_number_;
  std::map<Expr, uint32_t> body_number_;
  std::map<std::tuple<uint32_t, int64_t, int64_t>, uint32_t> call_ids_;
  std::vector<Grammar::Call> calls_;
  std::vector<Dfa> dfas_;
  std::vector<bool> deterministic_;
  Nfa nfa_;
  bool flat_ = false;
};

Dfa Compiler::trimmed(Dfa dfa) {
  trim(dfa);
  return dfa;
}

Result<Dfa> automaton_of(const Source& source, Expr e, Effort& effort) {
  return Compiler(source, 0, effort).automaton(e);
}

Result<std::shared_ptr<const Grammar>> Grammar::compile(const Source& source, RuleId root, Effort& effort) {
  return Compiler(source, root, effort).run();
}

std::string Grammar::fingerprint(uint32_t rule) const {
  std::string out;
  const auto put = [&out](uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
  };
  const Rule& r = rules_[rule];
  for (uint32_t s = r.start; s < r.start + r.n_states; ++s) {
    put(states_[s].final ? 1 : 0);
    for (const ByteEdge& edge : byte_edges(states_[s])) {
      put(uint32_t{edge.first} << 8 | edge.last | 1u << 16);
      put(edge.to - r.start);
    }
  }
  return out;
}

}  // namespace packmule::grammar
