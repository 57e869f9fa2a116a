#include "grammar/local_mask.h"

#include <algorithm>

#include "grammar/text_classes.h"

namespace packmule::grammar {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};

uint32_t next_state(const Grammar& grammar, uint32_t state, uint8_t byte) {
  for (const ByteEdge& edge : grammar.byte_edges(grammar.state(state)))
    if (byte <= edge.last) return byte >= edge.first ? edge.to : kNone;
  return kNone;
}

/// Below so many nodes a look at them costs no more than the question whether it can be saved.
constexpr size_t kFewNodes = 4;
/// Behind the end of a rule: for more, a tree of its own costs more to make than a look at the vocabulary's
/// costs.
constexpr size_t kManyNodes = 1024;

/// A walk over all tokens with a prefix-free rule read again and again.
/// `visit(node, n, ends)`: the node's byte is read, n repetitions have ended, one of them with this byte.
/// `all(node, n)`: behind n repetitions, all tokens from this node on are read to their ends, each of their
/// characters is a repetition; false: look at each all the same. Tokens that fail are skipped, and those
/// through nodes that `skip`.
template <class Visit, class All, class Skip>
void walk_repetition(const Grammar& grammar, const Vocabulary& vocabulary, uint32_t state, const Visit& visit,
                     const All& all, const Skip& skip) {
  const Grammar::Rule& rule = grammar.rules()[grammar.state(state).rule];
  // States by their number in the rule; behind the end of a repetition, which is at the start as well, one
  // more.
  const uint32_t begin = rule.n_states;
  const auto step = [&](uint32_t from, uint8_t byte) {
    const uint32_t to = next_state(grammar, rule.start + (from == begin ? 0 : from), byte);
    if (to == kNone) return kNone;
    return grammar.state(to).final ? begin : to - rule.start;  // a final state has no edges in such a rule
  };
  struct At {
    uint32_t state;
    uint32_t n;
  };
  const At first{state == rule.start ? begin : state - rule.start, 0};
  std::vector<At> path;
  Loops loops(kNone, true);
  const TextClasses& classes = vocabulary.classes();
  const auto& nodes = vocabulary.trie().nodes();
  for (size_t i = 0; i < nodes.size();) {
    path.resize(nodes[i].depth);
    const At at = path.empty() ? first : path.back();
    if (skip(i)) {
      i = nodes[i].end;
      continue;
    }
    if (at.state == begin && nodes[i].end - i > kFewNodes && classes.n_before[i] != TextClasses::kInside &&
        loops.cover(begin, classes.begins[i], step) && all(i, at.n)) {
      i = nodes[i].end;
      continue;
    }
    const uint32_t next = step(at.state, nodes[i].byte);
    if (next == kNone) {
      i = nodes[i].end;
      continue;
    }
    path.push_back({next, at.n + (next == begin ? 1 : 0)});
    visit(i, path.back().n, next == begin);
    ++i;
  }
}

}  // namespace

void TokenSet::add(uint32_t id) {
  if (bits_.empty() && list_.size() < n_words_ / 4) {
    list_.push_back(id);
    return;
  }
  if (bits_.empty()) {
    bits_.resize(n_words_);
    for (const uint32_t one : list_) bits_[one / 64] |= uint64_t{1} << (one % 64);
    list_ = {};
  }
  bits_[id / 64] |= uint64_t{1} << (id % 64);
}

void TokenSet::add(std::span<const uint32_t> ids) {
  size_t i = 0;
  while (bits_.empty() && i < ids.size()) add(ids[i++]);
  for (; i < ids.size(); ++i) bits_[ids[i] / 64] |= uint64_t{1} << (ids[i] % 64);
}

void TokenSet::add_to(std::vector<uint64_t>& mask) const {
  for (size_t i = 0; i < bits_.size(); ++i) mask[i] |= bits_[i];
  for (const uint32_t id : list_) mask[id / 64] |= uint64_t{1} << (id % 64);
}

Result<std::shared_ptr<const LocalMask>> local_mask(const std::shared_ptr<const Grammar>& grammar,
                                                    const Vocabulary& vocabulary, uint32_t state) {
  auto out = std::make_shared<LocalMask>(vocabulary.n_words());
  Machine machine(grammar);
  const ConfigId begin = machine.inside(state);
  const TokenTrie& trie = vocabulary.trie();
  const auto& nodes = trie.nodes();
  const auto step = [&](ConfigId from, uint8_t byte) { return machine.step(from, byte); };
  Loops loops(Machine::kDead, false);
  std::vector<ConfigId> path;
  std::vector<uint16_t> ends;  // lengths of beginnings of the path that end the rule, ascending
  std::vector<TokenTrie::Entry> rest;
  for (size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    path.resize(node.depth);
    while (!ends.empty() && ends.back() > node.depth) ends.pop_back();
    const ConfigId before = path.empty() ? begin : path.back();
    if (node.end - i > kFewNodes && loops.cover(before, vocabulary.classes().begins[i], step)) {
      const auto [first, last] = trie.values(i, true);
      out->inside.add(std::span(first, last));
      i = node.end;
      continue;
    }
    const ConfigId config = machine.step(before, node.byte);
    if (config == Machine::kDead) {
      const auto [first, last] = trie.values(i, true);
      for (const uint32_t* token = first; token != last && !ends.empty(); ++token)
        for (const uint16_t end : ends)
          rest.emplace_back(vocabulary.bytes(static_cast<int32_t>(*token)).substr(end), *token);
      i = node.end;
      continue;
    }
    path.push_back(config);
    if (machine.complete(config)) {
      if (node.end - i > kManyNodes)
        out->ends.push_back(static_cast<uint32_t>(i));
      else
        ends.push_back(static_cast<uint16_t>(node.depth + 1));
    }
    const auto [first, last] = trie.values(i);
    for (const uint32_t* token = first; token != last; ++token) out->inside.add(*token);
    ++i;
  }
  if (machine.overflowed())
    return fail(ErrorKind::kUnsupported, "the grammar is too ambiguous: too many readings of one token");
  out->rest = TokenTrie(std::move(rest));
  return std::shared_ptr<const LocalMask>(std::move(out));
}

std::shared_ptr<const LocalMask> repetition_mask(const Grammar& grammar, const Vocabulary& vocabulary,
                                                 uint32_t state) {
  auto out = std::make_shared<LocalMask>(vocabulary.n_words());
  const TokenTrie& trie = vocabulary.trie();
  walk_repetition(
      grammar, vocabulary, state,
      [&](size_t i, uint32_t n, bool ends) {
        const auto [first, last] = trie.values(i);
        for (const uint32_t* token = first; token != last; ++token) {
          out->inside.add(*token);
          const uint32_t need = ends ? n - 1 : n;
          if (need > 0) out->needs.push_back({.n = need, .token = *token});
        }
      },
      [&](size_t i, uint32_t n) {
        if (n != vocabulary.classes().n_before[i]) return false;
        const auto [first, last] = trie.values(i, true);
        out->plain.add(std::span(first, last));
        return true;
      },
      [](size_t) { return false; });
  std::stable_sort(out->needs.begin(), out->needs.end(),
                   [](const LocalMask::Need& a, const LocalMask::Need& b) { return a.n > b.n; });
  return out;
}

std::shared_ptr<const RepetitionRest> repetition_rest(const Grammar& grammar, const Vocabulary& vocabulary,
                                                      uint32_t state, uint8_t first) {
  auto out = std::make_shared<RepetitionRest>();
  std::vector<TokenTrie::Entry> entries;
  const TokenTrie& trie = vocabulary.trie();
  const auto& nodes = trie.nodes();
  const ClassSet wanted = class_of(first);
  walk_repetition(
      grammar, vocabulary, state,
      [&](size_t i, uint32_t n, bool ends) {
        if (!ends) return;
        for (size_t child = i + 1; child < nodes[i].end; child = nodes[child].end) {
          if (nodes[child].byte != first) continue;
          const auto [begin, end] = trie.values(child, true);
          for (const uint32_t* token = begin; token != end; ++token) {
            const auto text = vocabulary.bytes(static_cast<int32_t>(*token));
            entries.emplace_back(text.substr(nodes[child].depth), static_cast<uint32_t>(out->ends.size()));
            out->ends.push_back({.token = *token, .n = n});
          }
        }
      },
      [](size_t, uint32_t) { return false; },
      // Only tokens with the byte in them can go on with it.
      [&](size_t i) { return (vocabulary.classes().begins[i] & wanted) == 0; });
  out->rest = TokenTrie(std::move(entries));
  return out;
}

}  // namespace packmule::grammar
