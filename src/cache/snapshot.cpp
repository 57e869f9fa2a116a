#include "cache/snapshot.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"

namespace packmule::cache {
namespace {

int64_t pages_of(int64_t n_tokens) {
  return (n_tokens + kPageTokens - 1) / kPageTokens;
}

/// As many pages as about `bytes` more are, at least one, at most `left`.
size_t pages_of_turn(int64_t bytes, int64_t page_bytes, int64_t left) {
  return static_cast<size_t>(std::min(left, 1 + (bytes - 1) / std::max<int64_t>(page_bytes, 1)));
}

std::span<std::byte> pages_in(const AlignedBuffer& pages, int64_t index, size_t n, int64_t page_bytes) {
  return {pages.data() + index * page_bytes, n * static_cast<size_t>(page_bytes)};
}

Result<Snapshot::Checkpoint> copied(const PrefixTree::Entry& entry) {
  Snapshot::Checkpoint checkpoint{.n_tokens = static_cast<int64_t>(entry.tokens.size()),
                                  .logits = {entry.logits.begin(), entry.logits.end()}};
  const auto bytes = static_cast<size_t>(entry.state.size_bytes());
  PACKMULE_TRY(checkpoint.state, AlignedBuffer::allocate(bytes, "a copy of a recurrent state"));
  PACKMULE_TRY_STATUS(entry.state.read({checkpoint.state.data(), bytes}));
  return checkpoint;
}

Result<Snapshot> empty_snapshot(const PagePool& pool, std::span<const int32_t> tokens, int64_t first_page) {
  Snapshot snapshot{.tokens = {tokens.begin(), tokens.end()}, .first_page = first_page};
  PACKMULE_TRY(snapshot.pages,
               AlignedBuffer::allocate(static_cast<size_t>(snapshot.n_pages() * pool.page_bytes()),
                                       "a copy of KV pages"));
  return snapshot;
}

}  // namespace

SnapshotFormat SnapshotFormat::of(const PagePool& pool, uint64_t model, int64_t n_vocab, int64_t max_tokens) {
  return {.model = model,
          .layout = layout_hash(pool.layout()),
          .n_vocab = n_vocab,
          .page_bytes = pool.page_bytes(),
          .state_bytes = pool.layout().recurrent_bytes(),
          .max_tokens = max_tokens};
}

uint64_t layout_hash(const Layout& layout) {
  std::vector<int64_t> facts = {kPageTokens,
                                layout.n_kv_heads,
                                layout.head_dim,
                                static_cast<int64_t>(layout.k_type),
                                static_cast<int64_t>(layout.v_type),
                                layout.conv_channels,
                                layout.conv_taps,
                                layout.n_v_heads,
                                layout.dk,
                                layout.dv};
  facts.insert(facts.end(), layout.recurrent.begin(), layout.recurrent.end());
  return checksum_of(std::span<const int64_t>(facts));
}

Result<SnapshotTaker> SnapshotTaker::begin(std::shared_ptr<PagePool> pool, std::span<const int32_t> tokens,
                                           HeldPages pages, int64_t first_page,
                                           std::vector<int64_t> checkpoints) {
  SnapshotTaker taker;
  PACKMULE_TRY(taker.snapshot_, empty_snapshot(*pool, tokens, first_page));
  taker.pool_ = std::move(pool);
  taker.pages_ = std::move(pages);
  taker.checkpoints_ = std::move(checkpoints);
  std::reverse(taker.checkpoints_.begin(), taker.checkpoints_.end());
  return taker;
}

Result<bool> SnapshotTaker::take(const PrefixTree& tree, int64_t bytes) {
  const int64_t page_bytes = pool_->page_bytes();
  // States first: they may be dropped before it is their turn, the pages are held.
  while (bytes > 0 && !checkpoints_.empty()) {
    Result<Snapshot::Checkpoint> checkpoint;
    const std::span<const int32_t> tokens(snapshot_.tokens);
    const bool there = tree.visit_one(tokens.first(static_cast<size_t>(checkpoints_.back())),
                                      [&](const PrefixTree::Entry& entry) { checkpoint = copied(entry); });
    checkpoints_.pop_back();
    if (!there) continue;
    if (!checkpoint) return tl::unexpected(std::move(checkpoint).error());
    bytes -= static_cast<int64_t>(checkpoint->state.size_bytes());
    snapshot_.checkpoints.push_back(std::move(*checkpoint));
  }
  if (bytes > 0) {
    const size_t n = pages_of_turn(bytes, page_bytes, snapshot_.n_pages() - n_copied_);
    PACKMULE_TRY_STATUS(
        pool_->read_pages(pages_.numbers().subspan(static_cast<size_t>(snapshot_.first_page + n_copied_), n),
                          pages_in(snapshot_.pages, n_copied_, n, page_bytes)));
    n_copied_ += static_cast<int64_t>(n);
  }
  return checkpoints_.empty() && n_copied_ == snapshot_.n_pages();
}

Result<Snapshot> take_snapshot(const PagePool& pool, const PrefixTree::Entry& entry, int64_t first_page) {
  PACKMULE_TRY(Snapshot snapshot, empty_snapshot(pool, entry.tokens, first_page));
  const auto n_pages = static_cast<size_t>(snapshot.n_pages());
  PACKMULE_TRY_STATUS(pool.read_pages(entry.pages.subspan(static_cast<size_t>(first_page), n_pages),
                                      pages_in(snapshot.pages, 0, n_pages, pool.page_bytes())));
  PACKMULE_TRY(Snapshot::Checkpoint checkpoint, copied(entry));
  snapshot.checkpoints.push_back(std::move(checkpoint));
  return snapshot;
}

Result<SnapshotGiver> SnapshotGiver::begin(std::shared_ptr<PagePool> pool, PrefixTree& tree,
                                           const Snapshot& snapshot, HeldPages before) {
  if (!tree.free_pages(snapshot.n_pages()))
    return fail(ErrorKind::kOutOfMemory,
                "the KV cache has no room for {} tokens beside what is running; try again later, or raise "
                "--ctx-size or --cache-ram",
                snapshot.tokens.size());
  SnapshotGiver giver;
  giver.own_ = pool->take_pages(snapshot.n_pages());
  giver.before_ = std::move(before);
  giver.pool_ = std::move(pool);
  return giver;
}

Result<bool> SnapshotGiver::give(PrefixTree& tree, const Snapshot& snapshot, int64_t bytes) {
  const int64_t page_bytes = pool_->page_bytes();
  if (n_copied_ < snapshot.n_pages()) {
    const size_t n = pages_of_turn(bytes, page_bytes, snapshot.n_pages() - n_copied_);
    PACKMULE_TRY_STATUS(pool_->write_pages(own_.numbers().subspan(static_cast<size_t>(n_copied_), n),
                                           pages_in(snapshot.pages, n_copied_, n, page_bytes)));
    n_copied_ += static_cast<int64_t>(n);
    bytes -= static_cast<int64_t>(n) * std::max<int64_t>(page_bytes, 1);
  }
  while (bytes > 0 && n_checkpoints_ < snapshot.checkpoints.size()) {
    const Snapshot::Checkpoint& from = snapshot.checkpoints[n_checkpoints_++];
    auto state = tree.take_state();
    if (state == nullptr) continue;
    bytes -= state->size_bytes();
    if (Status written = state->write({from.state.data(), from.state.size_bytes()}); !written) {
      tree.give_back(std::move(state));
      return tl::unexpected(std::move(written).error());
    }
    std::vector<int64_t> pages(before_.numbers().begin(), before_.numbers().end());
    pages.insert(pages.end(), own_.numbers().begin(), own_.numbers().end());
    pages.resize(static_cast<size_t>(pages_of(from.n_tokens)));
    tree.insert(std::span(snapshot.tokens).first(static_cast<size_t>(from.n_tokens)), pages, std::move(state),
                from.logits);
    n_tokens_ = from.n_tokens;
  }
  return n_copied_ == snapshot.n_pages() && n_checkpoints_ == snapshot.checkpoints.size();
}

}  // namespace packmule::cache
