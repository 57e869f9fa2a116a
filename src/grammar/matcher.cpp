#include "grammar/matcher.h"

#include <algorithm>
#include <bitset>

#include "base/utf8.h"
#include "grammar/text_classes.h"

namespace packmule::grammar {
namespace {

// Behind a counted repetition: for more, a walk over the whole vocabulary costs less than what would be kept.
constexpr size_t kMaxFirsts = 16;

Error too_large() {
  return {
      .kind = ErrorKind::kUnsupported,
      .message = "the grammar is too ambiguous or nested too deeply: too many readings of the text so far"};
}

}  // namespace

TokenGrammar::TokenGrammar(std::shared_ptr<const Grammar> grammar,
                           std::shared_ptr<const Vocabulary> vocabulary)
    : grammar_(std::move(grammar)),
      vocabulary_(std::move(vocabulary)),
      fingerprints_(grammar_->rules().size()) {}

const std::string& TokenGrammar::fingerprint(uint32_t rule) const {
  constexpr uint32_t kMaxStates = 4096;
  std::string& known = fingerprints_[rule];
  const Grammar::Rule& r = grammar_->rules()[rule];
  if (known.empty() && r.calls_nothing && r.n_states <= kMaxStates) known = grammar_->fingerprint(rule);
  return known;
}

Result<std::shared_ptr<const LocalMask>> TokenGrammar::mask(uint32_t state) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = masks_.find(state); found != masks_.end()) return found->second;
  const uint32_t rule = grammar_->state(state).rule;
  std::string key = fingerprint(rule);
  if (!key.empty()) {
    key += "/" + std::to_string(state - grammar_->rules()[rule].start);
    if (auto shared = vocabulary_->find_mask(key)) return masks_[state] = std::move(shared);
  }
  PACKMULE_TRY(auto made, local_mask(grammar_, *vocabulary_, state));
  count(made->size_bytes());
  if (!key.empty()) vocabulary_->store_mask(key, made);
  return masks_[state] = std::move(made);
}

std::shared_ptr<const LocalMask> TokenGrammar::repetition(uint32_t state) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = repetitions_.find(state); found != repetitions_.end()) return found->second;
  const uint32_t rule = grammar_->state(state).rule;
  std::string key = fingerprint(rule);
  if (!key.empty()) {
    key += "*" + std::to_string(state - grammar_->rules()[rule].start);
    if (auto shared = vocabulary_->find_mask(key)) return repetitions_[state] = std::move(shared);
  }
  auto made = repetition_mask(*grammar_, *vocabulary_, state);
  count(made->size_bytes());
  if (!key.empty()) vocabulary_->store_mask(key, made);
  return repetitions_[state] = std::move(made);
}

std::shared_ptr<const RepetitionRest> TokenGrammar::rest(uint32_t state, uint8_t first) const {
  const std::lock_guard lock(mutex_);
  const uint64_t key = uint64_t{state} << 8 | first;
  if (const auto found = rests_.find(key); found != rests_.end()) return found->second;
  auto made = repetition_rest(*grammar_, *vocabulary_, state, first);
  count(made->rest.size_bytes() + made->ends.size() * sizeof(RepetitionRest::End));
  return rests_[key] = std::move(made);
}

void TokenGrammar::count(size_t bytes) const {
  constexpr size_t kMaxBytes = size_t{48} << 20;
  kept_bytes_ += bytes;
  if (kept_bytes_ <= kMaxBytes) return;
  masks_.clear();
  repetitions_.clear();
  rests_.clear();
  kept_bytes_ = bytes;
}

Matcher::Matcher(std::shared_ptr<const TokenGrammar> grammar)
    : grammar_(std::move(grammar)), machine_(grammar_->grammar()), config_(machine_.start()) {}

/// Calls visit(node) for the nodes whose bytes the grammar accepts from `config` on.
template <class Visit>
void Matcher::walk(const TokenTrie& trie, ConfigId config, const Visit& visit) {
  const auto& nodes = trie.nodes();
  path_.clear();
  for (size_t i = 0; i < nodes.size();) {
    path_.resize(nodes[i].depth);
    const ConfigId next = machine_.step(path_.empty() ? config : path_.back(), nodes[i].byte);
    if (next == Machine::kDead) {
      i = nodes[i].end;
      continue;
    }
    path_.push_back(next);
    visit(i);
    ++i;
  }
}

void Matcher::add_tokens(size_t begin, size_t end, ConfigId config, std::vector<uint64_t>& out) {
  constexpr size_t kFewNodes = 16;
  const TokenTrie& trie = grammar_->vocabulary().trie();
  const TextClasses& classes = grammar_->vocabulary().classes();
  const auto& nodes = trie.nodes();
  const auto step = [this](ConfigId from, uint8_t byte) { return machine_.step(from, byte); };
  Loops loops(Machine::kDead, false);
  path_.clear();
  for (size_t i = begin; i < end;) {
    path_.resize(nodes[i].depth - nodes[begin].depth);
    const ConfigId before = path_.empty() ? config : path_.back();
    const bool all = nodes[i].end - i > kFewNodes && loops.cover(before, classes.begins[i], step);
    const ConfigId next = all ? before : step(before, nodes[i].byte);
    if (next != Machine::kDead) {
      const auto [first, last] = trie.values(i, all);
      for (const uint32_t* token = first; token != last; ++token)
        out[*token / 64] |= uint64_t{1} << (*token % 64);
      path_.push_back(next);
    }
    i = all || next == Machine::kDead ? nodes[i].end : i + 1;
  }
}

Result<sampling::TokenMask> Matcher::mask() {
  for (const Kept& kept : kept_)
    if (kept.config == config_ && !kept.mask.empty()) return sampling::TokenMask(kept.mask);
  Kept& kept = kept_[next_kept_];
  next_kept_ = (next_kept_ + 1) % kept_.size();
  kept.config = Machine::kDead;
  kept.mask.assign(grammar_->vocabulary().n_words(), 0);
  PACKMULE_TRY_STATUS(make_mask(kept.mask));
  if (std::all_of(kept.mask.begin(), kept.mask.end(), [](uint64_t word) { return word == 0; }))
    return fail(ErrorKind::kUnsupported,
                "the grammar cannot go on: no token of the vocabulary fits, though its text is not complete");
  kept.config = config_;
  return sampling::TokenMask(kept.mask);
}

Status Matcher::make_mask(std::vector<uint64_t>& out) {
  const auto items = machine_.items(config_);
  for (const Machine::Item& item : std::vector<Machine::Item>(items.begin(), items.end())) {
    const Grammar& grammar = machine_.grammar();
    const auto context = machine_.returns(item.context);
    std::vector<Machine::Return> returns(context.begin(), context.end());
    if (grammar.rules()[grammar.state(item.state).rule].prefix_free) {
      // Long repetitions of what is short: most tokens hold several of them.
      const bool only = item.context != Machine::kRoot;
      std::erase_if(returns, [&](const Machine::Return& r) {
        if (!grammar.call(r.call).counted()) return false;
        add_repetition(item, r, out);
        return true;
      });
      if (only && returns.empty()) continue;
    }
    PACKMULE_TRY(const auto local, grammar_->mask(item.state));
    local->inside.add_to(out);
    if (returns.empty()) continue;
    const ConfigId behind = machine_.behind(returns, true);
    walk(local->rest, behind, [&](size_t node) {
      const auto [first, last] = local->rest.values(node);
      for (const uint32_t* token = first; token != last; ++token)
        out[*token / 64] |= uint64_t{1} << (*token % 64);
    });
    for (const uint32_t node : local->ends)
      add_tokens(node + 1, grammar_->vocabulary().trie().nodes()[node].end, behind, out);
  }
  if (machine_.overflowed()) return tl::unexpected<Error>(too_large());
  if (may_end())
    for (const int32_t id : grammar_->vocabulary().ends())
      out[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
  return {};
}

void Matcher::add_repetition(const Machine::Item& item, const Machine::Return& r,
                             std::vector<uint64_t>& out) {
  const Grammar::Call& call = machine_.grammar().call(r.call);
  // Tokens that go beyond the last repetition are found by the byte that follows it.
  const ConfigId exit = [&] {
    Machine::Return enough = r;
    enough.count = std::max(r.count, call.min);
    return machine_.behind({&enough, 1}, false);
  }();
  std::bitset<256> firsts;
  for (const Machine::Item& next : machine_.items(exit))
    for (const ByteEdge& edge : machine_.grammar().byte_edges(machine_.grammar().state(next.state)))
      for (size_t byte = edge.first; byte <= edge.last; ++byte) firsts.set(byte);
  if (firsts.count() > kMaxFirsts) {
    add_tokens(0, grammar_->vocabulary().trie().nodes().size(), machine_.at(item.state, {&r, 1}), out);
    return;
  }

  const auto local = grammar_->repetition(item.state);
  const auto add = [&](const TokenSet& tokens, const auto& needs, auto token_of) {
    repetition_.assign(out.size(), 0);
    tokens.add_to(repetition_);
    if (call.max != kUnlimited)
      for (const auto& need : needs) {
        if (r.count + need.n <= call.max) break;
        repetition_[need.*token_of / 64] &= ~(uint64_t{1} << (need.*token_of % 64));
      }
    for (size_t i = 0; i < out.size(); ++i) out[i] |= repetition_[i];
  };
  add(local->inside, local->needs, &LocalMask::Need::token);
  add(local->plain, grammar_->vocabulary().classes().needs, &TextClasses::Need::value);
  for (size_t byte = 0; byte < 256; ++byte) {
    if (!firsts[byte]) continue;
    const auto rest = grammar_->rest(item.state, static_cast<uint8_t>(byte));
    walk(rest->rest, exit, [&](size_t node) {
      const auto [first, last] = rest->rest.values(node);
      for (const uint32_t* value = first; value != last; ++value) {
        const RepetitionRest::End& end = rest->ends[*value];
        const int64_t read = r.count - 1 + end.n;
        if (read < call.min || (call.max != kUnlimited && read > call.max)) continue;
        out[end.token / 64] |= uint64_t{1} << (end.token % 64);
      }
    });
  }
}

Status Matcher::accept(int32_t token) {
  const Vocabulary& vocabulary = grammar_->vocabulary();
  if (token < 0 || static_cast<size_t>(token) >= vocabulary.n_tokens() || vocabulary.bytes(token).empty())
    return fail(ErrorKind::kInternal, "token {} is no text and not allowed by the grammar", token);
  return accept(vocabulary.bytes(token));
}

Status Matcher::accept(std::string_view bytes) {
  ConfigId next = config_;
  for (const char c : bytes) next = machine_.step(next, static_cast<uint8_t>(c));
  if (machine_.overflowed()) return tl::unexpected<Error>(too_large());
  if (next == Machine::kDead)
    return fail(ErrorKind::kInvalidArgument, "the grammar does not allow '{}' here", printable(bytes, 40));
  config_ = next;
  if (machine_.tidy(config_)) kept_ = {};  // known by numbers that mean nothing any more
  return {};
}

sampling::ConstraintFactory constraint(std::shared_ptr<const TokenGrammar> grammar) {
  return [grammar = std::move(grammar)] { return std::make_unique<Matcher>(grammar); };
}

}  // namespace packmule::grammar
