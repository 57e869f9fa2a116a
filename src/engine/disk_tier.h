// Between the scheduler, whose thread owns the caches in memory, and the disk, for which it must not wait.
//
// What is dropped from memory is copied and written by a thread of its own; what is found on the disk is read
// by it, and then lies in memory until the scheduler has put it where it belongs, a part at a time. When the
// disk is slower than what is dropped, entries are lost rather than waited for.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "cache/disk_cache.h"
#include "cache/prefix_tree.h"
#include "cache/snapshot.h"

namespace packmule::engine {

/// Copied between two steps of the model at most, about: a tenth of a second on a slow machine.
inline constexpr int64_t kBytesBetweenSteps = int64_t{128} << 20;

/// A conversation on its way from the disk to the tree. Belongs to the scheduler's thread.
class Arrival {
 public:
  Arrival(cache::DiskCache::Found found, std::span<const int32_t> tokens, cache::HeldPages before,
          int64_t n_known)
      : found_(std::move(found)),
        tokens_(tokens.begin(), tokens.begin() + found_.n_tokens),
        before_(std::move(before)),
        n_known_(n_known) {}

  [[nodiscard]] bool over() const { return over_; }
  [[nodiscard]] const cache::DiskCache::Found& found() const { return found_; }

 private:
  friend class DiskTier;
  const cache::DiskCache::Found found_;
  const std::vector<int32_t> tokens_;
  cache::HeldPages before_;
  const int64_t n_known_;  // tokens that were in memory
  std::optional<cache::Snapshot> snapshot_;
  std::optional<cache::SnapshotGiver> giver_;
  bool over_ = false;
};

class DiskTier {
 public:
  /// `on_scheduler` runs a function on the scheduler's thread, between steps, until it returns true.
  DiskTier(std::unique_ptr<cache::DiskCache> disk, std::shared_ptr<cache::PagePool> pool,
           std::function<void(std::function<bool()>)> on_scheduler);
  /// Writes what is waiting to be written.
  ~DiskTier();

  [[nodiscard]] const cache::DiskCache& disk() const { return *disk_; }

  // ---- on the scheduler's thread ----
  /// For PrefixTree::on_drop.
  void dropped(const cache::PrefixTree::Entry& entry);
  /// Begins to bring what the disk has of the prompt, if it is worth it compared with what the tree has. Of
  /// one entry only one comes at a time: who asks for it again gets the same.
  [[nodiscard]] std::shared_ptr<Arrival> fetch(std::span<const int32_t> prompt, cache::PrefixTree& tree);
  void erase(std::span<const int32_t> tokens) { disk_->erase(tokens); }
  /// Writes all that the tree has and the disk has not. Nothing else may be asked for afterwards.
  void save_all(const cache::PrefixTree& tree);

 private:
  struct Work {
    std::function<void()> run;
    int64_t bytes = 0;  // of memory that it holds
  };
  void work();
  void submit(Work work, bool first);
  [[nodiscard]] bool arrive(Arrival& arrival, cache::PrefixTree& tree);
  void finish();

  const std::unique_ptr<cache::DiskCache> disk_;
  const std::shared_ptr<cache::PagePool> pool_;
  const std::function<void(std::function<bool()>)> on_scheduler_;
  std::vector<std::shared_ptr<Arrival>> arrivals_;

  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<Work> waiting_;
  int64_t waiting_bytes_ = 0;  // with those of the work at hand
  bool stopping_ = false;
  std::thread thread_;  // last: the others must exist as long as it runs
};

}  // namespace packmule::engine
