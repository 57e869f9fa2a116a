// Holds a generation to a grammar: which tokens may come next.
//
// The mask of a place is put together from what is known of each state the grammar may be in (LocalMask,
// worked out when a state is met for the first time and kept) and from a look at the few tokens that go
// beyond the end of the state's rule. Masks of places that come again, as inside of a long text, are kept.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/local_mask.h"
#include "grammar/machine.h"
#include "grammar/vocabulary.h"
#include "sampling/constraint.h"

namespace packmule::grammar {

/// A grammar with the masks worked out so far for a vocabulary. May be used by several threads.
class TokenGrammar {
 public:
  TokenGrammar(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const Vocabulary> vocabulary);

  [[nodiscard]] const std::shared_ptr<const Grammar>& grammar() const { return grammar_; }
  [[nodiscard]] const Vocabulary& vocabulary() const { return *vocabulary_; }

  [[nodiscard]] Result<std::shared_ptr<const LocalMask>> mask(uint32_t state) const;
  [[nodiscard]] std::shared_ptr<const LocalMask> repetition(uint32_t state) const;
  [[nodiscard]] std::shared_ptr<const RepetitionRest> rest(uint32_t state, uint8_t first) const;

 private:
  /// Makes room for what is to be kept.
  void count(size_t bytes) const;
  /// Key of the vocabulary's store; "" for rules that are not kept there.
  [[nodiscard]] const std::string& fingerprint(uint32_t rule) const;

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  mutable std::vector<std::string> fingerprints_;  // by rule; worked out when asked for
  mutable std::mutex mutex_;
  mutable std::unordered_map<uint32_t, std::shared_ptr<const LocalMask>> masks_;
  mutable std::unordered_map<uint32_t, std::shared_ptr<const LocalMask>> repetitions_;
  mutable std::unordered_map<uint64_t, std::shared_ptr<const RepetitionRest>> rests_;
  mutable size_t kept_bytes_ = 0;
};

class Matcher : public sampling::Constraint {
 public:
  explicit Matcher(std::shared_ptr<const TokenGrammar> grammar);

  Result<sampling::TokenMask> mask() override;
  /// Leaves the state as it was when the token is not allowed.
  Status accept(int32_t token) override;
  bool may_end() const override { return machine_.complete(config_); }
  /// As `accept`, for text.
  Status accept(std::string_view bytes);

 private:
  static constexpr size_t kKeptMasks = 8;
  struct Kept {
    ConfigId config = Machine::kDead;
    std::vector<uint64_t> mask;
  };

  Status make_mask(std::vector<uint64_t>& out);
  void add_repetition(const Machine::Item& item, const Machine::Return& r, std::vector<uint64_t>& out);
  template <class Visit>
  void walk(const TokenTrie& trie, ConfigId config, const Visit& visit);
  /// Adds the tokens from the vocabulary's nodes [begin, end), siblings and what goes on from them, whose
  /// bytes from there on the grammar accepts from `config` on.
  void add_tokens(size_t begin, size_t end, ConfigId config, std::vector<uint64_t>& out);

  std::shared_ptr<const TokenGrammar> grammar_;
  Machine machine_;
  ConfigId config_;
  std::array<Kept, kKeptMasks> kept_;
  size_t next_kept_ = 0;
  std::vector<ConfigId> path_;        // of walk
  std::vector<uint64_t> repetition_;  // of add_repetition
};

/// For engine::Request.
[[nodiscard]] sampling::ConstraintFactory constraint(std::shared_ptr<const TokenGrammar> grammar);

}  // namespace packmule::grammar
