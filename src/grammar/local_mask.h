// What can be said of the tokens at a state of a rule without knowing what follows the rule.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "grammar/machine.h"
#include "grammar/vocabulary.h"

namespace packmule::grammar {

/// A set of tokens, as a list while it is small.
class TokenSet {
 public:
  explicit TokenSet(size_t n_words) : n_words_(n_words) {}
  void add(uint32_t id);
  void add(std::span<const uint32_t> ids);
  void add_to(std::vector<uint64_t>& mask) const;
  [[nodiscard]] size_t size_bytes() const { return list_.size() * 4 + bits_.size() * 8; }

 private:
  size_t n_words_;
  std::vector<uint32_t> list_;
  std::vector<uint64_t> bits_;
};

struct LocalMask {
  explicit LocalMask(size_t n_words) : inside(n_words), plain(n_words) {}
  /// Tokens that stay inside the rule or end with it: allowed whatever follows.
  TokenSet inside;
  /// What is left of tokens that go on beyond the end of the rule, the value is the token: allowed where it
  /// fits what follows. Tokens of `inside` are left out, all others are forbidden.
  TokenTrie rest;
  /// Nodes of the vocabulary's tree where the rule ends and very many tokens go on: the same is asked of all
  /// behind such a node. (White space before anything: a third of all tokens begin with a space.)
  std::vector<uint32_t> ends;

  // Of rules that are read again and again (counted repetitions of a prefix-free rule), instead:

  /// Tokens that stay inside the repetition, by how many must be allowed behind the one being read;
  /// descending.
  struct Need {
    uint32_t n = 0;
    uint32_t token = 0;
  };
  std::vector<Need> needs;
  /// The same for tokens whose characters all are repetitions: how many they need, TextClasses says.
  TokenSet plain;

  [[nodiscard]] size_t size_bytes() const {
    return sizeof *this + inside.size_bytes() + plain.size_bytes() + rest.size_bytes() +
           ends.size() * sizeof(uint32_t) + needs.size() * sizeof(Need);
  }
};

/// What is left of tokens behind some repetitions, beginning with one certain byte. The value is an index of
/// `ends`.
struct RepetitionRest {
  struct End {
    uint32_t token = 0;
    uint32_t n = 0;  // repetitions that end in it, the one being read is the first
  };
  std::vector<End> ends;
  TokenTrie rest;
};

/// The mask of a state; an error when the machine overflows.
[[nodiscard]] Result<std::shared_ptr<const LocalMask>> local_mask(
    const std::shared_ptr<const Grammar>& grammar, const Vocabulary& vocabulary, uint32_t state);
/// Of a state of a prefix-free rule that is read again and again.
[[nodiscard]] std::shared_ptr<const LocalMask> repetition_mask(const Grammar& grammar,
                                                               const Vocabulary& vocabulary, uint32_t state);
[[nodiscard]] std::shared_ptr<const RepetitionRest> repetition_rest(const Grammar& grammar,
                                                                    const Vocabulary& vocabulary,
                                                                    uint32_t state, uint8_t first);

}  // namespace packmule::grammar
