#include "engine/disk_tier.h"

#include <algorithm>
#include <utility>

#include "base/system_memory.h"

namespace packmule::engine {
namespace {

using cache::DiskCache;
using cache::PrefixTree;

/// Copies that wait to be written take at most this; one may always wait.
constexpr int64_t kMostWaitingBytes = int64_t{512} << 20;
/// Reading a state costs about as much as computing so many tokens.
constexpr int64_t kWorthReading = 16;

int64_t bytes_of(const cache::Snapshot& snapshot) {
  auto bytes = static_cast<int64_t>(snapshot.pages.size_bytes());
  for (const auto& checkpoint : snapshot.checkpoints)
    bytes += static_cast<int64_t>(checkpoint.state.size_bytes() + checkpoint.logits.size() * sizeof(float));
  return bytes;
}

}  // namespace

DiskTier::DiskTier(std::unique_ptr<DiskCache> disk, std::shared_ptr<cache::PagePool> pool,
                   std::function<void(std::function<bool()>)> on_scheduler)
    : disk_(std::move(disk)),
      pool_(std::move(pool)),
      on_scheduler_(std::move(on_scheduler)),
      thread_([this] { work(); }) {}

DiskTier::~DiskTier() {
  finish();
}

void DiskTier::finish() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  filled_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void DiskTier::submit(Work work, bool first) {
  {
    const std::lock_guard lock(mutex_);
    waiting_bytes_ += work.bytes;
    if (first)
      waiting_.push_front(std::move(work));
    else
      waiting_.push_back(std::move(work));
  }
  filled_.notify_one();
}

void DiskTier::work() {
  while (true) {
    Work next;
    {
      std::unique_lock lock(mutex_);
      filled_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    next.run();
    next.run = nullptr;
    const std::lock_guard lock(mutex_);
    waiting_bytes_ -= next.bytes;
  }
}

void DiskTier::dropped(const PrefixTree::Entry& entry) {
  const auto reserved = disk_->reserve(entry.tokens, !entry.logits.empty(), entry.n_saved);
  if (!reserved) return;
  const int64_t n_pages = static_cast<int64_t>(entry.pages.size()) - reserved->first_page;
  const int64_t bytes = n_pages * pool_->page_bytes() + entry.state.size_bytes();
  {
    const std::lock_guard lock(mutex_);
    if (waiting_bytes_ > 0 && waiting_bytes_ + bytes > kMostWaitingBytes)
      return disk_->cancel(reserved->ticket);
  }
  auto taken = cache::take_snapshot(*pool_, entry, reserved->first_page);
  if (!taken) return disk_->lose(reserved->ticket, taken.error().message);
  const auto snapshot = std::make_shared<cache::Snapshot>(std::move(*taken));
  submit({.run = [this, snapshot, ticket = reserved->ticket] { (void)disk_->store(ticket, *snapshot); },
          .bytes = bytes_of(*snapshot)},
         false);
}

std::shared_ptr<Arrival> DiskTier::fetch(std::span<const int32_t> prompt, PrefixTree& tree) {
  const int64_t n_known = tree.find(prompt);
  DiskCache::Found found = disk_->find(prompt);
  if (found.n_tokens < n_known + kWorthReading) return nullptr;
  for (const auto& arrival : arrivals_)
    if (arrival->found().chain.back() == found.chain.back() && arrival->found().n_tokens == found.n_tokens)
      return arrival;
  const int64_t first_page = n_known / cache::kPageTokens;
  const int64_t n_pages = (found.n_tokens + cache::kPageTokens - 1) / cache::kPageTokens - first_page;
  // It is in memory twice for a moment.
  if (n_pages * pool_->page_bytes() > available_memory_bytes() / 2) return nullptr;
  const bool written = found.written;
  const auto arrival =
      std::make_shared<Arrival>(std::move(found), prompt, tree.hold(prompt, first_page), n_known);
  arrivals_.push_back(arrival);
  // What is being written comes behind its writing. The thread sees nothing of the arrival but these.
  submit({.run =
              [this, &tree, wanted = arrival->found(), tokens = arrival->tokens_, first_page,
               key = arrival.get()] {
                auto read =
                    std::make_shared<Result<cache::Snapshot>>(disk_->load(wanted, tokens, first_page));
                on_scheduler_([this, &tree, key, read] {
                  const auto it = std::find_if(arrivals_.begin(), arrivals_.end(),
                                               [&](const auto& one) { return one.get() == key; });
                  Arrival& it_is = **it;
                  if (!it_is.snapshot_ && *read) it_is.snapshot_ = std::move(**read);
                  if (it_is.snapshot_ && !arrive(it_is, tree)) return false;
                  it_is.over_ = true;
                  it_is.before_ = {};
                  it_is.snapshot_.reset();
                  it_is.giver_.reset();
                  arrivals_.erase(it);
                  return true;
                });
              }},
         written);
  return arrival;
}

/// False when there is more to copy.
bool DiskTier::arrive(Arrival& arrival, PrefixTree& tree) {
  if (!arrival.giver_) {
    auto giver = cache::SnapshotGiver::begin(pool_, tree, *arrival.snapshot_, std::move(arrival.before_));
    if (!giver) return true;
    arrival.giver_ = std::move(*giver);
  }
  // A device that fails here fails what waits for this as well, which then says so.
  const auto complete = arrival.giver_->give(tree, *arrival.snapshot_, kBytesBetweenSteps);
  if (complete && !*complete) return false;
  if (const int64_t n = arrival.giver_->n_tokens() - arrival.n_known_; n > 0) disk_->count_hit(n);
  return true;
}

void DiskTier::save_all(const PrefixTree& tree) {
  finish();
  bool works = true;
  tree.visit([&](const PrefixTree::Entry& entry) {
    if (!works) return;
    const auto reserved = disk_->reserve(entry.tokens, !entry.logits.empty(), entry.n_saved);
    if (!reserved) return;
    const auto snapshot = cache::take_snapshot(*pool_, entry, reserved->first_page);
    if (snapshot)
      works = disk_->store(reserved->ticket, *snapshot);
    else
      disk_->lose(reserved->ticket, snapshot.error().message);
  });
}

}  // namespace packmule::engine
