// A conversation outside of the caches: tokens, the K and V pages of some of them, checkpoints. In memory
// here, in a file by snapshot_file.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "cache/prefix_tree.h"
#include "cache/sequence.h"

namespace packmule::cache {

/// What a snapshot must have in common with the caches it goes into.
struct SnapshotFormat {
  uint64_t model = 0;   // of the weights: a hash that the caller makes
  uint64_t layout = 0;  // layout_hash()
  int64_t n_vocab = 0;  // token ids are below; logits have so many
  int64_t page_bytes = 0;
  int64_t state_bytes = 0;
  int64_t max_tokens = 0;  // more are of no use here

  static SnapshotFormat of(const PagePool& pool, uint64_t model, int64_t n_vocab, int64_t max_tokens);
};

/// Of everything that says how pages and states are laid out: cache types, sizes, tokens of a page.
[[nodiscard]] uint64_t layout_hash(const Layout& layout);

struct Snapshot {
  struct Checkpoint {
    int64_t n_tokens = 0;
    AlignedBuffer state;  // as RecurrentState::read() gives it
    std::vector<float> logits;
  };
  std::vector<int32_t> tokens;  // from the first of the conversation on
  int64_t first_page = 0;       // those before are not in it
  AlignedBuffer pages;          // of the tokens from first_page * kPageTokens on, as PagePool::read_pages()
  std::vector<Checkpoint> checkpoints;  // by position, none before the first page

  [[nodiscard]] int64_t n_pages() const {
    return (static_cast<int64_t>(tokens.size()) + kPageTokens - 1) / kPageTokens - first_page;
  }
};

/// Copies what a tree keeps into a snapshot, a part at a time, so that others need not wait for all of it.
class SnapshotTaker {
 public:
  /// Of these tokens from page `first_page` on, with those of the checkpoints that are still there when it is
  /// their turn. `pages` must hold all pages of the tokens.
  static Result<SnapshotTaker> begin(std::shared_ptr<PagePool> pool, std::span<const int32_t> tokens,
                                     HeldPages pages, int64_t first_page, std::vector<int64_t> checkpoints);
  /// Copies about `bytes` more. True when it is complete.
  Result<bool> take(const PrefixTree& tree, int64_t bytes);
  [[nodiscard]] Snapshot& snapshot() { return snapshot_; }

 private:
  SnapshotTaker() = default;
  std::shared_ptr<PagePool> pool_;
  HeldPages pages_;
  std::vector<int64_t> checkpoints_;  // to be copied, the last first
  int64_t n_copied_ = 0;              // pages
  Snapshot snapshot_;
};

/// All of one entry at once.
[[nodiscard]] Result<Snapshot> take_snapshot(const PagePool& pool, const PrefixTree::Entry& entry,
                                             int64_t first_page);

/// Puts a snapshot into a tree, a part at a time.
class SnapshotGiver {
 public:
  /// `before` holds the pages before the snapshot's first. Takes free pages for its own, for which others
  /// may be dropped from the tree: kOutOfMemory when there are not enough.
  static Result<SnapshotGiver> begin(std::shared_ptr<PagePool> pool, PrefixTree& tree,
                                     const Snapshot& snapshot, HeldPages before);
  /// Copies about `bytes` more. True when all is in the tree that has room there. After an error (a device's)
  /// nothing more can be given; what is in the tree is whole.
  [[nodiscard]] Result<bool> give(PrefixTree& tree, const Snapshot& snapshot, int64_t bytes);
  [[nodiscard]] int64_t n_tokens() const {
    return n_tokens_;
  }  // of the longest checkpoint that has found room

 private:
  SnapshotGiver() = default;
  std::shared_ptr<PagePool> pool_;
  HeldPages before_, own_;
  int64_t n_copied_ = 0;
  size_t n_checkpoints_ = 0;
  int64_t n_tokens_ = 0;
};

}  // namespace packmule::cache
