#include "grammar/local_mask.h"

#include <algorithm>

namespace packmule::grammar {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};

uint32_t next_state(const Grammar& grammar, uint32_t state, uint8_t byte) {
  for (const ByteEdge& edge : grammar.byte_edges(grammar.state(state)))
    if (byte <= edge.last) return byte >= edge.first ? edge.to : kNone;
  return kNone;
}

/// A walk over all tokens with a prefix-free rule read again and again.
/// `visit(node, state, n)`: the state behind the node's byte, n repetitions have ended; `state` is the start
/// of the rule if one ends with this byte. Tokens that fail are skipped.
template <class Visit>
void walk_repetition(const Grammar& grammar, const TokenTrie& trie, uint32_t state, const Visit& visit) {
  struct At {
    uint32_t state;
    uint32_t n;
  };
  const uint32_t start = grammar.rules()[grammar.state(state).rule].start;
  std::vector<At> path;
  const auto& nodes = trie.nodes();
  for (size_t i = 0; i < nodes.size();) {
    path.resize(nodes[i].depth);
    const At at = path.empty() ? At{state, 0} : path.back();
    uint32_t next = next_state(grammar, at.state, nodes[i].byte);
    if (next == kNone) {
      i = nodes[i].end;
      continue;
    }
    const bool ends = grammar.state(next).final;  // which has no edges in such a rule
    path.push_back({ends ? start : next, at.n + (ends ? 1 : 0)});
    visit(i, path.back().n, ends);
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
  std::vector<ConfigId> path;
  std::vector<uint16_t> ends;  // lengths of beginnings of the path that end the rule, ascending
  std::vector<TokenTrie::Entry> rest;
  for (size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    path.resize(node.depth);
    while (!ends.empty() && ends.back() > node.depth) ends.pop_back();
    const ConfigId config = machine.step(path.empty() ? begin : path.back(), node.byte);
    if (config == Machine::kDead) {
      const auto [first, last] = trie.values(i, true);
      for (const uint32_t* token = first; token != last && !ends.empty(); ++token)
        for (const uint16_t end : ends)
          rest.emplace_back(vocabulary.bytes(static_cast<int32_t>(*token)).substr(end), *token);
      i = node.end;
      continue;
    }
    path.push_back(config);
    if (machine.complete(config)) ends.push_back(static_cast<uint16_t>(node.depth + 1));
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
  walk_repetition(grammar, trie, state, [&](size_t i, uint32_t n, bool ends) {
    const auto [first, last] = trie.values(i);
    for (const uint32_t* token = first; token != last; ++token) {
      out->inside.add(*token);
      const uint32_t need = ends ? n - 1 : n;
      if (need > 0) out->needs.push_back({.n = need, .token = *token});
    }
  });
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
  walk_repetition(grammar, trie, state, [&](size_t i, uint32_t n, bool ends) {
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
  });
  out->rest = TokenTrie(std::move(entries));
  return out;
}

}  // namespace packmule::grammar
