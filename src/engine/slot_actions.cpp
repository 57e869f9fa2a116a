// What is asked of slots from outside, and how functions of other threads get their turn between two steps.
#include <condition_variable>
#include <optional>

#include "cache/snapshot_file.h"
#include "engine/boundaries.h"
#include "engine/impl.h"
#include "engine/scheduler.h"

namespace packmule::engine {
namespace {

/// Checkpoints of one conversation in a file.
constexpr size_t kMostInAFile = 8;

tl::unexpected<Error> nothing_there(int slot) {
  return fail(ErrorKind::kInvalidArgument,
              "slot {} holds no conversation, or it was dropped for want of room", slot);
}

}  // namespace

Status Scheduler::open_disk() {
  if (options_.cache_disk_path.empty() || tree_.budget_bytes() <= 0) return {};
  const auto warn = [log = options_.warn](const std::string& line) {
    if (log) log("--cache-disk: " + line);
  };
  auto disk = cache::DiskCache::open({.folder = options_.cache_disk_path,
                                      .limit_bytes = options_.cache_disk_bytes,
                                      .format = snapshot_format_,
                                      .log = warn});
  if (!disk) {
    warn(disk.error().message + "; going on without it");
    return {};
  }
  disk_ = std::make_unique<DiskTier>(
      std::move(*disk), pages_, [this](std::function<bool()> part) { post(std::move(part), [](bool) {}); });
  tree_.on_drop([this](const cache::PrefixTree::Entry& entry) { disk_->dropped(entry); });
  return {};
}

void Scheduler::post(std::function<bool()> part, std::function<void(bool)> after) {
  {
    std::unique_lock lock(mutex_);
    if (closed_) {
      lock.unlock();
      return after(false);
    }
    new_errands_.push_back({std::move(part), std::move(after)});
    news_ = true;
  }
  filled_.notify_one();
}

/// Each gets one turn: whatever they do, the next step comes soon.
void Scheduler::run_errands() {
  {
    const std::lock_guard lock(mutex_);
    std::move(new_errands_.begin(), new_errands_.end(), std::back_inserter(errands_));
    new_errands_.clear();
  }
  std::vector<Errand> left;
  for (Errand& errand : errands_) {
    if (errand.part())
      errand.after(true);
    else
      left.push_back(std::move(errand));
  }
  errands_ = std::move(left);
}

bool Scheduler::run_between_steps(std::function<bool()> part) {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<bool> result;
  post(std::move(part), [&](bool ran) {
    const std::lock_guard lock(mutex);
    result = ran;
    changed.notify_one();  // under the lock: the other side's variables end with its wait
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return result.has_value(); });
  return *result;
}

/// Calls `part` on the scheduler's thread as soon as the slot is free, until it has a result.
template <class T>
Result<T> Scheduler::with_free_slot(int slot, const std::stop_token& stop,
                                    std::function<std::optional<Result<T>>(Slot&)> part) {
  if (slot < 0 || slot >= std::ssize(slots_))
    return fail(ErrorKind::kInvalidArgument, "there is no slot {}, expected 0 to {}", slot,
                slots_.size() - 1);
  std::optional<Result<T>> result;
  bool begun = false;
  const bool ran = run_between_steps([&] {
    Slot& place = slots_[static_cast<size_t>(slot)];
    if (stop.stop_requested()) return true;
    if (!begun && place.busy()) return false;
    begun = true;
    result = part(place);
    if (result) publish();
    return result.has_value();
  });
  if (!ran || !result) return fail(ErrorKind::kCancelled, "the request was cancelled");
  return std::move(*result);
}

Result<cache::Snapshot> Scheduler::copy_slot(int slot, const std::stop_token& stop) {
  std::optional<cache::SnapshotTaker> taker;
  auto snapshot =
      with_free_slot<cache::Snapshot>(slot, stop, [&](Slot& place) -> std::optional<Result<cache::Snapshot>> {
        if (!taker) {
          const std::vector<int64_t> marks = tree_.checkpoints_along(place.last_tokens);
          if (marks.empty()) return nothing_there(slot);
          const auto tokens = std::span(place.last_tokens).first(static_cast<size_t>(marks.back()));
          auto begun = cache::SnapshotTaker::begin(
              pages_, tokens,
              tree_.hold(tokens, (marks.back() + cache::kPageTokens - 1) / cache::kPageTokens), 0,
              thin_out(marks, kMostInAFile));
          if (!begun) return tl::unexpected(begun.error());
          taker = std::move(*begun);
        }
        const auto complete = taker->take(tree_, kBytesBetweenSteps);
        if (complete && !*complete) return std::nullopt;
        std::optional<Result<cache::Snapshot>> out;
        if (!complete)
          out = tl::unexpected(complete.error());
        else if (taker->snapshot().checkpoints.empty())
          out = nothing_there(slot);
        else
          out = std::move(taker->snapshot());
        taker.reset();  // here, on the thread that may give pages back
        return out;
      });
  if (taker) (void)run_between_steps([&] { return taker.reset(), true; });
  return snapshot;
}

Status Scheduler::fill_slot(int slot, std::shared_ptr<const cache::Snapshot> snapshot,
                            const std::stop_token& stop) {
  std::optional<cache::SnapshotGiver> giver;
  const auto filled = with_free_slot<bool>(slot, stop, [&](Slot& place) -> std::optional<Result<bool>> {
    if (!giver) {
      auto begun = cache::SnapshotGiver::begin(pages_, tree_, *snapshot, {});
      if (!begun) return tl::unexpected(begun.error());
      giver = std::move(*begun);
    }
    const auto complete = giver->give(tree_, *snapshot, kBytesBetweenSteps);
    if (complete && !*complete) return std::nullopt;
    const bool any = giver->n_tokens() > 0;
    giver.reset();
    if (!complete) return tl::unexpected(complete.error());
    if (!any)
      return fail(ErrorKind::kOutOfMemory, "there is no memory to keep a conversation in; raise --cache-ram");
    place.last_tokens = snapshot->tokens;
    return true;
  });
  if (giver) (void)run_between_steps([&] { return giver.reset(), true; });
  if (!filled) return tl::unexpected(filled.error());
  return {};
}

Result<int64_t> Scheduler::erase_slot(int slot, const std::stop_token& stop) {
  return with_free_slot<int64_t>(slot, stop, [&](Slot& place) -> std::optional<Result<int64_t>> {
    const int64_t n_erased = std::ssize(place.last_tokens) - tree_.erase(place.last_tokens);
    if (disk_ != nullptr) disk_->erase(place.last_tokens);
    place.last_tokens.clear();
    return n_erased;
  });
}

Result<Engine::SlotFile> Engine::save_slot(int slot, const std::string& path, std::stop_token stop) {
  Scheduler& scheduler = *impl_->scheduler;
  PACKMULE_TRY(const cache::Snapshot snapshot, scheduler.copy_slot(slot, stop));
  PACKMULE_TRY(const int64_t n_bytes, cache::write_snapshot(path, scheduler.snapshot_format(), snapshot));
  return SlotFile{.n_tokens = std::ssize(snapshot.tokens), .n_bytes = n_bytes};
}

Result<Engine::SlotFile> Engine::restore_slot(int slot, const std::string& path, std::stop_token stop) {
  Scheduler& scheduler = *impl_->scheduler;
  PACKMULE_TRY(cache::ByteSource source, cache::open_source(path));
  PACKMULE_TRY(const cache::SnapshotReader reader,
               cache::SnapshotReader::open(std::move(source), scheduler.snapshot_format()));
  if (reader.head().first_page > 0)
    return fail(ErrorKind::kUnsupported,
                "{}: it holds only a part of a conversation, as files of --cache-disk do", path);
  PACKMULE_TRY(cache::Snapshot read, reader.read_all());
  const auto snapshot = std::make_shared<const cache::Snapshot>(std::move(read));
  PACKMULE_TRY_STATUS(scheduler.fill_slot(slot, snapshot, stop));
  return SlotFile{.n_tokens = std::ssize(snapshot->tokens), .n_bytes = reader.size_bytes()};
}

Result<int64_t> Engine::erase_slot(int slot, std::stop_token stop) {
  return impl_->scheduler->erase_slot(slot, stop);
}

}  // namespace packmule::engine
