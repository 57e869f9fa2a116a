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
  uint64_t next = next_.load(std::memory_order_acquire);
  while (const auto n_left = static_cast<uint32_t>(next)) {
    const Call call = call_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    const uint32_t item = n_items_.load(std::memory_order_relaxed) - n_left;
    // Success means that `next_` is as it was read: the job was open then and is until this item is done, so
    // what was read in between belongs to it.
    if (!next_.compare_exchange_weak(next, next - 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    call(context, item, worker);
    if (n_open_.fetch_sub(1, std::memory_order_acq_rel) == 1) n_open_.notify_one();
    next = next_.load(std::memory_order_acquire);
  }
}

void ThreadPool::run_erased(int64_t n_items, Call call, void* context) {
  if (n_items <= 0) return;
  if (workers_.empty() || n_items == 1) {
    for (int64_t item = 0; item < n_items; ++item) call(context, item, 0);
    return;
  }
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  n_items_.store(static_cast<uint32_t>(n_items), std::memory_order_relaxed);
  n_open_.store(static_cast<uint32_t>(n_items), std::memory_order_relaxed);
  const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  next_.store(uint64_t{generation} << 32 | static_cast<uint32_t>(n_items), std::memory_order_release);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  take_items(0);
  // The items are all taken; wait for those still being worked on.
  for (uint32_t n_open; (n_open = n_open_.load(std::memory_order_acquire)) != 0;)
    wait_for_change(n_open_, n_open);
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  while (true) {
    wait_for_change(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    take_items(worker);
  }
}

}  // namespace packmule
