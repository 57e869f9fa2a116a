#include "api/work_queue.h"

#include <algorithm>

namespace packmule::api {

WorkQueue::WorkQueue(size_t max_waiting, int n_threads) : max_waiting_(max_waiting) {
  for (int i = 0; i < n_threads; ++i)
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

WorkQueue::~WorkQueue() {
  for (std::jthread& thread : threads_) thread.request_stop();
  threads_.clear();
}

bool WorkQueue::submit(Job job, std::stop_token abandoned) {
  std::deque<Entry> dropped;  // destroyed outside the lock: a job may own a connection
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= max_waiting_) {
      const auto kept = std::stable_partition(waiting_.begin(), waiting_.end(),
                                              [](const Entry& e) { return !e.abandoned.stop_requested(); });
      std::move(kept, waiting_.end(), std::back_inserter(dropped));
      waiting_.erase(kept, waiting_.end());
      if (waiting_.size() >= max_waiting_) return false;
    }
    waiting_.push_back({std::move(job), std::move(abandoned)});
  }
  filled_.notify_one();
  return true;
}

size_t WorkQueue::n_waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

void WorkQueue::work(const std::stop_token& stop) {
  while (true) {
    Entry entry;
    {
      std::unique_lock lock(mutex_);
      if (!filled_.wait(lock, stop, [this] { return !waiting_.empty(); })) return;
      if (stop.stop_requested()) return;
      entry = std::move(waiting_.front());
      waiting_.pop_front();
    }
    entry.job(stop);
  }
}

}  // namespace packmule::api
