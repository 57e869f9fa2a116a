#include "base/thread_pool.h"

#include <immintrin.h>

#include <algorithm>

namespace packmule {
namespace {

// About 10 microseconds of PAUSE on current cores: longer than the serial gap between two phases of a decode
// step, far shorter than a scheduler's time slice.
constexpr int kSpins = 400;

/// Waits until value() differs from `old`: spins first, then sleeps.
template <class T>
void wait_for_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    _mm_pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  for (int worker = 1; worker < std::max(1, n_threads); ++worker)
    workers_.emplace_back([this, worker] { work(worker); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take_items(int worker) {
  for (int64_t item; (item = next_item_.fetch_add(1, std::memory_order_relaxed)) < n_items_;)
    call_(context_, item, worker);
}

void ThreadPool::run_erased(int64_t n_items, Call call, void* context) {
  if (n_items <= 0) return;
  if (workers_.empty() || n_items == 1) {
    for (int64_t item = 0; item < n_items; ++item) call(context, item, 0);
    return;
  }
  call_ = call;
  context_ = context;
  n_items_ = n_items;
  next_item_.store(0, std::memory_order_relaxed);
  busy_workers_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  take_items(0);
  // The items are all taken; wait for those still being worked on.
  for (int busy; (busy = busy_workers_.load(std::memory_order_acquire)) != 0;)
    wait_for_change(busy_workers_, busy);
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  while (true) {
    wait_for_change(generation_, seen);
    // Every worker takes part in every job, so a job cannot start while one is still in the last.
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    take_items(worker);
    if (busy_workers_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_workers_.notify_one();
  }
}

}  // namespace packmule
