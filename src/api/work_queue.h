// Threads that do one job after the other from a queue of bounded length.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

namespace packmule::api {

class WorkQueue {
 public:
  using Job = std::function<void(const std::stop_token& queue_stops)>;

  /// So many jobs run at the same time.
  explicit WorkQueue(size_t max_waiting, int n_threads = 1);
  /// Requests the stop of the running jobs, waits for them, and drops the waiting ones.
  ~WorkQueue();

  /// False when `max_waiting` jobs are waiting already. Jobs whose `abandoned` token was stopped make room.
  [[nodiscard]] bool submit(Job job, std::stop_token abandoned);

  [[nodiscard]] size_t n_waiting() const;

 private:
  struct Entry {
    Job job;
    std::stop_token abandoned;
  };
  void work(const std::stop_token& stop);

  const size_t max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable_any filled_;
  std::deque<Entry> waiting_;
  std::vector<std::jthread> threads_;  // last: the others must exist as long as they run
};

}  // namespace packmule::api
