#include "grammar/vocabulary.h"

#include <algorithm>

#include "grammar/local_mask.h"

namespace packmule::grammar {
namespace {

constexpr size_t kStoredBytes = size_t{96} << 20;
constexpr size_t kMaxTokenBytes = 65535;

std::vector<TokenTrie::Entry> entries(const std::vector<std::string>& tokens) {
  std::vector<TokenTrie::Entry> out;
  out.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id)
    if (!tokens[id].empty()) out.emplace_back(tokens[id], static_cast<uint32_t>(id));
  return out;
}

std::vector<std::string> without(std::vector<std::string> tokens, const std::vector<int32_t>& ends) {
  for (const int32_t id : ends) tokens[static_cast<size_t>(id)].clear();
  for (std::string& token : tokens)
    if (token.size() > kMaxTokenBytes) token.clear();
  return tokens;
}

}  // namespace

Vocabulary::Vocabulary(std::vector<std::string> tokens, std::vector<int32_t> ends)
    : tokens_(without(std::move(tokens), ends)),
      ends_(std::move(ends)),
      trie_(entries(tokens_)),
      classes_(trie_) {}

std::shared_ptr<const Vocabulary> Vocabulary::of(const text::Tokenizer& tokenizer, int64_t n_vocab) {
  std::vector<std::string> tokens(static_cast<size_t>(n_vocab));
  std::vector<int32_t> ends;
  for (int32_t id = 0; id < std::min(n_vocab, tokenizer.n_tokens()); ++id) {
    if (tokenizer.is_end_of_generation(id))
      ends.push_back(id);
    else if (!tokenizer.is_padding(id) && tokenizer.kind(id) != text::TokenKind::kControl)
      tokens[static_cast<size_t>(id)] = tokenizer.token_bytes(id);
  }
  return std::make_shared<const Vocabulary>(std::move(tokens), std::move(ends));
}

std::shared_ptr<const LocalMask> Vocabulary::find_mask(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = masks_.find(key);
  if (found == masks_.end()) return nullptr;
  used_.splice(used_.begin(), used_, found->second.used);
  return found->second.mask;
}

void Vocabulary::store_mask(const std::string& key, std::shared_ptr<const LocalMask> mask) const {
  const std::lock_guard lock(mutex_);
  const auto [found, added] = masks_.try_emplace(key);
  if (!added) return;
  used_.push_front(key);
  stored_bytes_ += mask->size_bytes() + key.size();
  found->second = {.mask = std::move(mask), .used = used_.begin()};
  while (stored_bytes_ > kStoredBytes && used_.size() > 1) {
    const auto oldest = masks_.find(used_.back());
    stored_bytes_ -= oldest->second.mask->size_bytes() + oldest->first.size();
    masks_.erase(oldest);
    used_.pop_back();
  }
}

}  // namespace packmule::grammar
