// Runs a grammar over bytes: a pushdown automaton that follows all readings of the text at once.
//
// A configuration is a set of items: a state of a rule's automaton, and a context, which says where the
// readings go on once the rule is complete: a set of (state, context, count). Rules that are called at the
// same place share one context whoever called them, so that the work at a byte is bounded by the number of
// states and of places, not by that of the readings (as in Earley's and Tomita's parsers). Contexts and
// configurations are numbered, equal ones have equal numbers, and what a byte does to a configuration is
// remembered: text that repeats itself, as JSON does, costs a table look-up a byte.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "grammar/grammar.h"

namespace packmule::grammar {

using ConfigId = uint32_t;
using ContextId = uint32_t;

/// What a byte does to a configuration, as far as it is known. Grows by copying flat memory and is thrown
/// away at once: a table of nodes takes milliseconds for either, in the middle of an answer.
class StepTable {
 public:
  static constexpr ConfigId kUnknown = ~ConfigId{0};

  [[nodiscard]] ConfigId find(ConfigId config, uint8_t byte) const {
    const uint64_t key = key_of(config, byte);
    for (size_t i = place(key); slots_[i].key != 0; i = (i + 1) & (slots_.size() - 1))
      if (slots_[i].key == key) return slots_[i].to;
    return kUnknown;
  }
  /// One that is not known yet.
  void add(ConfigId config, uint8_t byte, ConfigId to);
  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Slot {
    uint64_t key = 0;  // 0: free
    ConfigId to = 0;
  };
  static uint64_t key_of(ConfigId config, uint8_t byte) { return (uint64_t{config} << 8 | byte) + 1; }
  [[nodiscard]] size_t place(uint64_t key) const {
    return static_cast<size_t>(key * 0x9e3779b97f4a7c15u >> 32) & (slots_.size() - 1);
  }
  void insert(uint64_t key, ConfigId to);

  std::vector<Slot> slots_ = std::vector<Slot>(1024);  // a power of two, at most half full
  size_t size_ = 0;
};

class Machine {
 public:
  static constexpr ConfigId kDead = 0;   // no reading is left
  static constexpr ContextId kRoot = 0;  // behind the rule with which all began
  static constexpr size_t kMaxItems = 1024;
  static constexpr size_t kMaxStored = size_t{1} << 23;    // items, and returns, of one machine
  static constexpr size_t kTidyAt = size_t{1} << 20;       // items or returns
  static constexpr size_t kTidyStepsAt = size_t{1} << 17;  // remembered steps

  struct Item {
    uint32_t state = 0;
    ContextId context = kRoot;
    auto operator<=>(const Item&) const = default;
  };
  /// Where a reading goes on. For the call of a counted repetition `count` is the number of the one that is
  /// being read, at most the call's min if it has no max.
  struct Return {
    uint32_t state = 0;
    ContextId context = kRoot;
    uint32_t call = 0;
    int64_t count = 1;
    auto operator<=>(const Return&) const = default;
  };

  explicit Machine(std::shared_ptr<const Grammar> grammar);

  [[nodiscard]] const Grammar& grammar() const { return *grammar_; }
  /// At the beginning of the root rule.
  [[nodiscard]] ConfigId start();
  /// In this state of a rule, with nothing known of what follows the rule: `complete` tells of its end.
  [[nodiscard]] ConfigId inside(uint32_t state);
  /// In this state of a rule that was called from these places.
  [[nodiscard]] ConfigId at(uint32_t state, std::span<const Return> returns);
  [[nodiscard]] ConfigId step(ConfigId config, uint8_t byte);
  /// Behind a rule that was called from these places; `again` false: no further repetition of counted ones.
  [[nodiscard]] ConfigId behind(std::span<const Return> returns, bool again);

  [[nodiscard]] std::span<const Item> items(ConfigId config) const;
  [[nodiscard]] std::span<const Return> returns(ContextId context) const;
  /// A reading ends here.
  [[nodiscard]] bool complete(ConfigId config) const { return configs_[config].complete; }
  /// When much has been stored, forgets all but this configuration and gives it a new number: true then. Call
  /// it where no other number is kept.
  bool tidy(ConfigId& config);

  /// A limit was passed: from here on results mean nothing.
  [[nodiscard]] bool overflowed() const { return overflowed_; }

 private:
  struct Span {
    uint32_t begin = 0;
    uint32_t size = 0;
    bool complete = false;
  };
  /// Items found for the configuration that is being made; each is put in once.
  void add(uint32_t state, ContextId context);
  void finish_rule(ContextId context);
  void finish_rule(const Return& r, bool again);
  void call(uint32_t call, uint32_t to, ContextId context);
  void call_rule(uint32_t rule, const Return& r);
  /// What follows from the items added: rules that end with them and rules that begin behind them.
  ConfigId close();
  ContextId intern_context(std::vector<Return>& returns);
  ConfigId intern_config();

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Item> item_pool_;
  std::vector<Span> configs_;
  std::unordered_multimap<uint64_t, ConfigId> config_ids_;
  std::vector<Return> return_pool_;
  std::vector<Span> contexts_;
  std::unordered_multimap<uint64_t, ContextId> context_ids_;
  StepTable steps_;
  bool overflowed_ = false;

  // Of the configuration that is being made.
  std::vector<Item> found_;
  std::unordered_set<uint64_t> found_set_;  // the same; used when they are many
  bool complete_ = false;
  std::vector<std::vector<Return>> called_;  // by rule
  std::vector<uint32_t> called_ranks_;       // a heap, lowest first
  std::vector<uint32_t> rule_of_rank_;
};

}  // namespace packmule::grammar
