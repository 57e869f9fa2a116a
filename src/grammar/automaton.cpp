#include "grammar/automaton.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <map>
#include <unordered_map>

namespace packmule::grammar {
namespace {

constexpr size_t kMinimizedStates = 192;  // the method's time grows with the square of their number

struct SubsetHash {
  size_t operator()(const std::vector<uint32_t>& subset) const {
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (const uint32_t s : subset) h = (h ^ s) * 0x100000001b3u + (h >> 29);
    return static_cast<size_t>(h);
  }
};

/// Joins neighbouring ranges that lead to the same state.
void join_edges(std::vector<ByteEdge>& edges) {
  size_t n = 0;
  for (const ByteEdge& edge : edges) {
    if (n > 0 && edges[n - 1].to == edge.to && edges[n - 1].last + 1 == edge.first)
      edges[n - 1].last = edge.last;
    else
      edges[n++] = edge;
  }
  edges.resize(n);
}

class SubsetConstruction {
 public:
  SubsetConstruction(const Nfa& nfa, uint32_t end, Effort& effort)
      : nfa_(nfa), end_(end), effort_(effort), seen_(nfa.states.size(), 0) {}

  Result<Dfa> run(uint32_t start) {
    close({start});
    find_or_add();
    for (size_t i = 0; i < subsets_.size(); ++i)
      if (!expand(static_cast<uint32_t>(i))) return Effort::exceeded();
    return std::move(dfa_);
  }

 private:
  /// `closed_`: the states reached without a byte that matter: those with edges, and the end.
  void close(const std::vector<uint32_t>& states) {
    ++stamp_;
    closed_.clear();
    stack_ = states;
    while (!stack_.empty()) {
      const uint32_t s = stack_.back();
      stack_.pop_back();
      if (seen_[s] == stamp_) continue;
      seen_[s] = stamp_;
      const Nfa::State& state = nfa_.states[s];
      if (s == end_ || !state.bytes.empty() || !state.calls.empty()) closed_.push_back(s);
      stack_.insert(stack_.end(), state.empty.begin(), state.empty.end());
    }
    std::sort(closed_.begin(), closed_.end());
  }

  uint32_t find_or_add() {
    const auto [found, added] = ids_.try_emplace(closed_, static_cast<uint32_t>(subsets_.size()));
    if (added) {
      subsets_.push_back(&found->first);
      Dfa::State& state = dfa_.states.emplace_back();
      state.final = std::binary_search(closed_.begin(), closed_.end(), end_);
    }
    return found->second;
  }

  bool expand(uint32_t id) {
    const std::vector<uint32_t>& subset = *subsets_[id];
    std::bitset<257> cuts;
    std::map<uint32_t, std::vector<uint32_t>> calls;
    int64_t n_edges = 0;
    for (const uint32_t s : subset) {
      for (const ByteEdge& edge : nfa_.states[s].bytes) {
        cuts.set(edge.first);
        cuts.set(size_t{edge.last} + 1);
        ++n_edges;
      }
      for (const CallEdge& edge : nfa_.states[s].calls) calls[edge.call].push_back(edge.to);
    }
    if (!effort_.spend(static_cast<int64_t>(subset.size()) + n_edges + 1)) return false;
    std::vector<ByteEdge> bytes;
    std::vector<uint32_t> targets;
    for (size_t first = 0; first < 256;) {
      size_t next = first + 1;
      while (next < 256 && !cuts[next]) ++next;
      targets.clear();
      for (const uint32_t s : subset)
        for (const ByteEdge& edge : nfa_.states[s].bytes)
          if (edge.first <= first && first <= edge.last) targets.push_back(edge.to);
      if (!effort_.spend(n_edges / 8)) return false;
      if (!targets.empty()) {
        close(targets);
        bytes.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(next - 1), find_or_add()});
      }
      first = next;
    }
    join_edges(bytes);
    dfa_.states[id].bytes = std::move(bytes);
    for (const auto& [call, to] : calls) {
      close(to);
      const uint32_t target = find_or_add();
      dfa_.states[id].calls.push_back({call, target});
    }
    return true;
  }

  const Nfa& nfa_;
  const uint32_t end_;
  Effort& effort_;
  std::vector<uint32_t> seen_;
  uint32_t stamp_ = 0;
  std::vector<uint32_t> closed_, stack_;
  std::unordered_map<std::vector<uint32_t>, uint32_t, SubsetHash> ids_;
  std::vector<const std::vector<uint32_t>*> subsets_;
  Dfa dfa_;
};

/// Merges states that accept the same, by refining classes until nothing changes (Moore).
void minimize(Dfa& dfa) {
  const size_t n = dfa.states.size();
  if (n > kMinimizedStates) return;
  std::vector<uint32_t> classes(n);
  for (size_t s = 0; s < n; ++s) classes[s] = dfa.states[s].final ? 1 : 0;
  size_t n_classes = 0;
  for (;;) {
    std::map<std::vector<uint32_t>, uint32_t> ids;
    std::vector<uint32_t> next(n);
    for (size_t s = 0; s < n; ++s) {
      std::vector<ByteEdge> bytes = dfa.states[s].bytes;
      for (ByteEdge& edge : bytes) edge.to = classes[edge.to];
      join_edges(bytes);
      std::vector<uint32_t> key{classes[s]};
      for (const ByteEdge& edge : bytes)
        key.push_back(uint32_t{edge.first} << 8 | edge.last), key.push_back(edge.to);
      key.push_back(~uint32_t{0});
      for (const CallEdge& edge : dfa.states[s].calls)
        key.push_back(edge.call), key.push_back(classes[edge.to]);
      next[s] = ids.try_emplace(std::move(key), static_cast<uint32_t>(ids.size())).first->second;
    }
    classes = std::move(next);
    if (ids.size() == n_classes) break;
    n_classes = ids.size();
  }
  if (n_classes == n) return;
  Dfa out;
  out.states.resize(n_classes);
  // Classes are numbered in the order of their first state, so the start stays 0.
  std::vector<bool> filled(n_classes, false);
  for (size_t s = 0; s < n; ++s) {
    if (filled[classes[s]]) continue;
    filled[classes[s]] = true;
    Dfa::State state = std::move(dfa.states[s]);
    for (ByteEdge& edge : state.bytes) edge.to = classes[edge.to];
    join_edges(state.bytes);
    for (CallEdge& edge : state.calls) edge.to = classes[edge.to];
    out.states[classes[s]] = std::move(state);
  }
  dfa = std::move(out);
}

void tidy(Dfa& dfa) {
  trim(dfa);
  minimize(dfa);
}

/// All characters from `first` to `last`, whose UTF-8 has `n` bytes: an edge for the first byte, then the
/// rest.
void add_utf8(Nfa& nfa, uint32_t from, uint32_t first, uint32_t last, int n, uint32_t to) {
  if (n == 1) {
    const uint32_t mask = first < 0x80 ? 0 : 0x80;
    nfa.byte(from, static_cast<uint8_t>(first | mask), static_cast<uint8_t>(last | mask), to);
    return;
  }
  constexpr std::array<uint32_t, 5> kLead = {0, 0, 0xc0, 0xe0, 0xf0};
  const int shift = 6 * (n - 1);
  const uint32_t low = (1u << shift) - 1;
  // Bytes from a to b of this place; what follows goes from x to y in the lower bits.
  const auto place = [&](uint32_t a, uint32_t b, uint32_t x, uint32_t y, uint32_t lead) {
    uint32_t at = nfa.add_state();
    nfa.byte(from, static_cast<uint8_t>(lead | a), static_cast<uint8_t>(lead | b), at);
    // The rest, place by place, in the same way; a place below the first has 6 bits and the mark 0x80.
    struct Part {
      uint32_t state, x, y;
      int shift;
    };
    std::vector<Part> parts{{at, x, y, shift - 6}};
    while (!parts.empty()) {
      const Part part = parts.back();
      parts.pop_back();
      if (part.shift == 0) {
        nfa.byte(part.state, static_cast<uint8_t>(0x80 | part.x), static_cast<uint8_t>(0x80 | part.y), to);
        continue;
      }
      const uint32_t rest = (1u << part.shift) - 1;
      const auto sub = [&](uint32_t p, uint32_t q, uint32_t u, uint32_t v) {
        const uint32_t next = nfa.add_state();
        nfa.byte(part.state, static_cast<uint8_t>(0x80 | p), static_cast<uint8_t>(0x80 | q), next);
        parts.push_back({next, u, v, part.shift - 6});
      };
      const uint32_t p = part.x >> part.shift, q = part.y >> part.shift;
      const uint32_t u = part.x & rest, v = part.y & rest;
      if (p == q) {
        sub(p, q, u, v);
        continue;
      }
      uint32_t middle = p, middle_end = q;
      if (u != 0) sub(p, p, u, rest), ++middle;
      if (v != rest) sub(q, q, 0, v), --middle_end;
      if (middle <= middle_end) sub(middle, middle_end, 0, rest);
    }
  };
  const uint32_t lead = kLead[static_cast<size_t>(n)];
  const uint32_t a = first >> shift, b = last >> shift;
  const uint32_t x = first & low, y = last & low;
  if (a == b) return place(a, b, x, y, lead);
  uint32_t middle = a, middle_end = b;
  if (x != 0) place(a, a, x, low, lead), ++middle;
  if (y != low) place(b, b, 0, y, lead), --middle_end;
  if (middle <= middle_end) place(middle, middle_end, 0, low, lead);
}

}  // namespace

void trim(Dfa& dfa) {
  const size_t n = dfa.states.size();
  std::vector<std::vector<uint32_t>> back(n);
  std::vector<uint32_t> work;
  std::vector<bool> useful(n, false);
  for (uint32_t s = 0; s < n; ++s) {
    for (const ByteEdge& edge : dfa.states[s].bytes) back[edge.to].push_back(s);
    for (const CallEdge& edge : dfa.states[s].calls) back[edge.to].push_back(s);
    if (dfa.states[s].final) useful[s] = true, work.push_back(s);
  }
  while (!work.empty()) {
    const uint32_t s = work.back();
    work.pop_back();
    for (const uint32_t from : back[s])
      if (!useful[from]) useful[from] = true, work.push_back(from);
  }
  constexpr uint32_t kNone = ~uint32_t{0};
  std::vector<uint32_t> number(n, kNone), order{0};
  number[0] = 0;
  const auto visit = [&](uint32_t to) {
    if (number[to] != kNone) return;
    number[to] = static_cast<uint32_t>(order.size());
    order.push_back(to);
  };
  for (size_t i = 0; i < order.size(); ++i) {
    Dfa::State& state = dfa.states[order[i]];
    std::erase_if(state.bytes, [&](const ByteEdge& edge) { return !useful[edge.to]; });
    std::erase_if(state.calls, [&](const CallEdge& edge) { return !useful[edge.to]; });
    for (const ByteEdge& edge : state.bytes) visit(edge.to);
    for (const CallEdge& edge : state.calls) visit(edge.to);
  }
  Dfa out;
  out.states.reserve(order.size());
  for (const uint32_t s : order) {
    Dfa::State state = std::move(dfa.states[s]);
    for (ByteEdge& edge : state.bytes) edge.to = number[edge.to];
    for (CallEdge& edge : state.calls) edge.to = number[edge.to];
    out.states.push_back(std::move(state));
  }
  dfa = std::move(out);
}

tl::unexpected<Error> Effort::exceeded() {
  return fail(ErrorKind::kUnsupported,
              "too large: compiling it takes more states than are allowed; use smaller repetitions, fewer "
              "alternatives or fewer optional properties");
}

void Nfa::text(uint32_t from, std::string_view bytes, uint32_t to) {
  if (bytes.empty()) return empty(from, to);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint32_t next = i + 1 == bytes.size() ? to : add_state();
    const auto b = static_cast<uint8_t>(bytes[i]);
    byte(from, b, b, next);
    from = next;
  }
}

void Nfa::characters(uint32_t from, uint32_t first, uint32_t last, uint32_t to) {
  constexpr std::array<uint32_t, 4> kEnds = {0x7f, 0x7ff, 0xffff, 0x10ffff};
  for (int n = 1; n <= 4; ++n) {
    const uint32_t end = kEnds[static_cast<size_t>(n) - 1];
    if (first > end) continue;
    add_utf8(*this, from, first, std::min(last, end), n, to);
    if (last <= end) return;
    first = end + 1;
  }
}

void Nfa::automaton(uint32_t from, const Dfa& dfa, uint32_t to) {
  const auto base = static_cast<uint32_t>(states.size());
  for (const Dfa::State& state : dfa.states) {
    State copy;
    for (const ByteEdge& edge : state.bytes) copy.bytes.push_back({edge.first, edge.last, base + edge.to});
    if (state.final) copy.empty.push_back(to);
    states.push_back(std::move(copy));
  }
  empty(from, base);
}

Result<Dfa> determinize(const Nfa& nfa, uint32_t start, uint32_t end, Effort& effort) {
  PACKMULE_TRY(Dfa dfa, SubsetConstruction(nfa, end, effort).run(start));
  tidy(dfa);
  return dfa;
}

Result<Dfa> without_empty_edges(const Nfa& nfa, uint32_t start, uint32_t end, Effort& effort) {
  constexpr uint32_t kNone = ~uint32_t{0};
  std::vector<uint32_t> number(nfa.states.size(), kNone), order, seen(nfa.states.size(), kNone), stack;
  const auto number_of = [&](uint32_t s) {
    if (number[s] == kNone) number[s] = static_cast<uint32_t>(order.size()), order.push_back(s);
    return number[s];
  };
  number_of(start);
  Dfa out;
  for (uint32_t i = 0; i < order.size(); ++i) {
    Dfa::State state;
    stack.assign(1, order[i]);
    while (!stack.empty()) {
      const uint32_t s = stack.back();
      stack.pop_back();
      if (seen[s] == i) continue;
      seen[s] = i;
      state.final = state.final || s == end;
      for (const ByteEdge& edge : nfa.states[s].bytes)
        state.bytes.push_back({edge.first, edge.last, number_of(edge.to)});
      for (const CallEdge& edge : nfa.states[s].calls) state.calls.push_back({edge.call, number_of(edge.to)});
      stack.insert(stack.end(), nfa.states[s].empty.begin(), nfa.states[s].empty.end());
      if (!effort.spend(1 + static_cast<int64_t>(nfa.states[s].bytes.size()))) return Effort::exceeded();
    }
    std::sort(state.bytes.begin(), state.bytes.end(), [](const ByteEdge& a, const ByteEdge& b) {
      return a.first != b.first ? a.first < b.first : a.to < b.to;
    });
    std::sort(state.calls.begin(), state.calls.end(), [](const CallEdge& a, const CallEdge& b) {
      return a.call != b.call ? a.call < b.call : a.to < b.to;
    });
    out.states.push_back(std::move(state));
  }
  trim(out);
  return out;
}

Result<Dfa> intersect(const Dfa& a, const Dfa& b, Effort& effort) {
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> ids;
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  const auto id_of = [&](uint32_t x, uint32_t y) {
    const auto [found, added] = ids.try_emplace({x, y}, static_cast<uint32_t>(pairs.size()));
    if (added) pairs.emplace_back(x, y);
    return found->second;
  };
  id_of(0, 0);
  Dfa out;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const Dfa::State& x = a.states[pairs[i].first];
    const Dfa::State& y = b.states[pairs[i].second];
    Dfa::State state;
    state.final = x.final && y.final;
    for (const ByteEdge& e : x.bytes)
      for (const ByteEdge& f : y.bytes) {
        const uint8_t first = std::max(e.first, f.first), last = std::min(e.last, f.last);
        if (first <= last) state.bytes.push_back({first, last, id_of(e.to, f.to)});
      }
    if (!effort.spend(static_cast<int64_t>(x.bytes.size() * y.bytes.size()) + 1)) return Effort::exceeded();
    std::sort(state.bytes.begin(), state.bytes.end(),
              [](const ByteEdge& e, const ByteEdge& f) { return e.first < f.first; });
    out.states.push_back(std::move(state));
  }
  tidy(out);
  return out;
}

Result<Dfa> texts_without(Nfa forbidden, uint32_t end, Effort& effort) {
  // One may begin at every byte; a state in which one has ended is a dead end.
  const uint32_t start = forbidden.add_state();
  forbidden.byte(start, 0, 255, start);
  forbidden.empty(start, 0);
  PACKMULE_TRY(Dfa dfa, SubsetConstruction(forbidden, end, effort).run(start));
  std::vector<bool> bad(dfa.states.size());
  for (size_t s = 0; s < bad.size(); ++s) bad[s] = dfa.states[s].final;
  for (size_t s = 0; s < bad.size(); ++s) {
    std::erase_if(dfa.states[s].bytes, [&](const ByteEdge& edge) { return bad[edge.to]; });
    dfa.states[s].final = !bad[s];
  }
  tidy(dfa);
  return dfa;
}

bool is_empty(const Dfa& dfa) {
  return std::none_of(dfa.states.begin(), dfa.states.end(), [](const Dfa::State& s) { return s.final; });
}

}  // namespace packmule::grammar
