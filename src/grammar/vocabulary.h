// The tokens that a text can be made of, by their bytes.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/text_classes.h"
#include "grammar/token_trie.h"
#include "text/tokenizer.h"

namespace packmule::grammar {

struct LocalMask;

/// Immutable, but for a store of masks that belong to rules rather than to a grammar; all may be called by
/// several threads.
class Vocabulary {
 public:
  /// `tokens[id]` are a token's bytes, "" for one that is no text (control tokens, padding); `ends` the ids
  /// that end a turn.
  Vocabulary(std::vector<std::string> tokens, std::vector<int32_t> ends);
  /// Of the model's `n_vocab` logits. Control tokens are no text: a grammar never allows them.
  static std::shared_ptr<const Vocabulary> of(const text::Tokenizer& tokenizer, int64_t n_vocab);

  [[nodiscard]] size_t n_tokens() const { return tokens_.size(); }
  [[nodiscard]] size_t n_words() const { return (tokens_.size() + 63) / 64; }  // of a mask
  [[nodiscard]] std::string_view bytes(int32_t id) const { return tokens_[static_cast<size_t>(id)]; }
  [[nodiscard]] const std::vector<int32_t>& ends() const { return ends_; }
  [[nodiscard]] const TokenTrie& trie() const { return trie_; }
  /// Of the tree.
  [[nodiscard]] const TextClasses& classes() const { return classes_; }

  /// The masks of a state of a rule that calls nothing, which are the same for equal rules of all grammars;
  /// nullptr: not stored. The ones used longest ago are dropped where they take more than 96 MiB.
  [[nodiscard]] std::shared_ptr<const LocalMask> find_mask(const std::string& key) const;
  void store_mask(const std::string& key, std::shared_ptr<const LocalMask> mask) const;

 private:
  struct Stored {
    std::shared_ptr<const LocalMask> mask;
    std::list<std::string>::iterator used;
  };
  std::vector<std::string> tokens_;
  std::vector<int32_t> ends_;
  TokenTrie trie_;
  TextClasses classes_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, Stored> masks_;
  mutable std::list<std::string> used_;  // last used first
  mutable size_t stored_bytes_ = 0;
};

}  // namespace packmule::grammar
