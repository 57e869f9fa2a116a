// Worker threads that take work instead of being given equal shares.
//
// A job is a number of items; every thread, the caller included, draws the next item from one counter until
// none is left. A thread that loses its core to another program therefore delays one item, not the whole job;
// one that does not get a core at all is not waited for. Threads that find nothing to do spin for some
// microseconds (phases of a decode step follow each other that fast) and then sleep in the kernel, so that an
// idle or outnumbered pool costs nobody a core.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace packmule {

class ThreadPool {
 public:
  /// `n_threads` counts the calling thread; 1 means no workers. At least 1.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(item, worker) once for every item in [0, n_items), worker in [0, n_threads()). Returns when
  /// all calls have returned. At most 2^32 - 1 items. No allocation. One job at a time: only one thread may
  /// call run, and body must not. body must not throw.
  template <class Body>
  void run(int64_t n_items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_erased(
        n_items,
        [](void* context, int64_t item, int worker) { (*static_cast<Plain*>(context))(item, worker); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

 private:
  using Call = void (*)(void* context, int64_t item, int worker);
  void run_erased(int64_t n_items, Call call, void* context);
  void work(int worker);
  void take_items(int worker);

  // The job, written before `next_` opens it. A worker that comes late may read it while the next job is
  // written (hence atomics), but takes no item with it: none is left, or `next_` has changed.
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> n_items_{0};
  /// Number of the job (upper half) and how many of its items nobody has taken (lower half): who lowers it by
  /// one owns the next item.
  alignas(64) std::atomic<uint64_t> next_{0};
  alignas(64) std::atomic<uint32_t> n_open_{0};      // items of the job that are not done
  alignas(64) std::atomic<uint32_t> generation_{0};  // raised once a job; workers sleep on it
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace packmule
