// What past sequences left for later ones: KV pages and recurrent states, found by the tokens they stand for.
//
// A recurrent state cannot be cut back, so a prompt can go on from an earlier one only where a state was
// kept: at a checkpoint. The tree's nodes are the checkpoints. A node stands for the tokens on the way from
// the root to it, holds the state behind the last of them, and the pages of the tokens since its parent. No
// node's tokens are the beginning of a sibling's.
//
// When there is no more room the least valuable checkpoint goes, by the GreedyDual rule: a checkpoint is
// worth the tokens it saves, those between it and the one before it, on top of what was thrown away when it
// was last used. So a long system prompt outlives many short messages, but not for ever. Tokens are compared
// one by one: an entry cannot be taken for another. All of it lives in memory, as long as the model it was
// made with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cache/sequence.h"

namespace packmule::cache {

/// Not thread-safe, like the pool.
class PrefixTree {
 public:
  /// States kept, and those handed out to be filled, take at most `budget_bytes`.
  PrefixTree(std::shared_ptr<PagePool> pool, int64_t budget_bytes);
  ~PrefixTree();

  struct Found {
    int64_t n_tokens = 0;           // 0: nothing
    std::span<const float> logits;  // behind the last of them, if they were kept; valid until the next call
  };
  /// Lets `sequence` continue the longest beginning of `tokens` that has a checkpoint: in place of what it
  /// held it has that many tokens. All of them only if logits were kept, so that nothing needs to be
  /// computed. Pages that are missing for that are taken from other entries; if there are none, nothing is
  /// found.
  [[nodiscard]] Found resume(std::span<const int32_t> tokens, Sequence& sequence);
  /// How many tokens resume() would find.
  [[nodiscard]] int64_t find(std::span<const int32_t> tokens) const;

  /// A state to be filled and given to insert() or give_back(), or none when the budget has no room for one.
  /// Its contents are undefined.
  [[nodiscard]] std::unique_ptr<RecurrentState> take_state();
  void give_back(std::unique_ptr<RecurrentState> state);
  /// Keeps a checkpoint behind `tokens`; `pages` (page_numbers() of a sequence, perhaps longer) hold their K
  /// and V. If there is one already it counts as used, and the state is given back; logits are added if it
  /// had none.
  void insert(std::span<const int32_t> tokens, std::span<const int64_t> pages,
              std::unique_ptr<RecurrentState> state, std::vector<float> logits = {});

  /// Drops entries until the pool has `n` free pages. False, and nothing dropped, when that would not do.
  [[nodiscard]] bool free_pages(int64_t n);
  void clear();

  // ---- For what is kept elsewhere too (cache/disk_cache.h) ----
  /// A checkpoint with all that is needed to go on from it; valid during the call that shows it.
  struct Entry {
    std::span<const int32_t> tokens;  // from the first of the sequence on
    std::span<const int64_t> pages;   // of all of them
    const RecurrentState& state;
    std::span<const float> logits;  // empty: not kept
    int64_t n_saved = 0;            // tokens since the checkpoint before it
  };
  using Visitor = std::function<void(const Entry&)>;
  /// Called for what is dropped for want of room, before it goes. It must not call the tree.
  void on_drop(Visitor visitor) { on_drop_ = std::move(visitor); }
  /// Every checkpoint, those with fewer of its tokens before it.
  void visit(const Visitor& visitor) const;
  /// The checkpoint behind exactly these tokens. False if there is none.
  bool visit_one(std::span<const int32_t> tokens, const Visitor& visitor) const;
  /// Where checkpoints stand on the way of these tokens, ascending.
  [[nodiscard]] std::vector<int64_t> checkpoints_along(std::span<const int32_t> tokens) const;
  /// The first `n` pages of these tokens, which a checkpoint on their way has: at most n whole pages of
  /// find(tokens).
  [[nodiscard]] HeldPages hold(std::span<const int32_t> tokens, int64_t n) const;
  /// Forgets the checkpoints on the way of these tokens, from the last back to the first that other entries
  /// go on from. How many of the tokens are still kept after that.
  int64_t erase(std::span<const int32_t> tokens);

  [[nodiscard]] int64_t n_checkpoints() const { return n_checkpoints_; }
  [[nodiscard]] int64_t size_bytes() const { return n_checkpoints_ * state_bytes_ + other_bytes_; }
  [[nodiscard]] int64_t budget_bytes() const { return budget_bytes_; }

 private:
  struct Node;
  struct Place {
    Node* node;
    int64_t n_tokens;
  };
  [[nodiscard]] Place deepest(std::span<const int32_t> tokens) const;
  [[nodiscard]] Place usable(std::span<const int32_t> tokens) const;
  [[nodiscard]] static std::vector<int64_t> page_numbers(const Node& node);
  static void show(const Node& node, const Visitor& visitor);
  void use(Node& node);
  [[nodiscard]] Node* least_valuable(bool leaf, const Node* except) const;
  bool free_pages(int64_t n, const Node* except);
  bool shrink(int64_t n_more);
  void make_room(Node& node);
  void drop(Node& node);

  std::shared_ptr<PagePool> pool_;
  const int64_t budget_bytes_;
  int64_t state_bytes_ = 0;
  std::unique_ptr<Node> root_;
  int64_t n_checkpoints_ = 0;
  int64_t n_taken_ = 0;      // states that take_state() has handed out
  int64_t other_bytes_ = 0;  // tokens and logits of nodes
  int64_t n_uses_ = 0;
  int64_t clock_ = 0;  // value of what was thrown away last
  std::vector<std::unique_ptr<RecurrentState>> spare_;
  Visitor on_drop_;
};

}  // namespace packmule::cache
