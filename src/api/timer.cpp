#include "api/timer.h"

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

namespace packmule::api {

/// What alarms and the thread share; it may outlive the timer in an alarm that nobody will make ring.
struct ThreadTimer::Pending {
  using Clock = std::chrono::steady_clock;
  using Key = std::pair<Clock::time_point, uint64_t>;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::map<Key, std::function<void()>> calls;
  uint64_t n_alarms = 0;

  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      if (calls.empty()) {
        changed.wait(lock, stop, [this] { return !calls.empty(); });
        continue;
      }
      const auto first = calls.begin();
      const Clock::time_point due = first->first.first;
      if (Clock::now() < due) {
        changed.wait_until(lock, stop, due,
                           [&] { return calls.empty() || calls.begin()->first.first != due; });
        continue;
      }
      {
        const std::function<void()> call = std::move(first->second);
        calls.erase(first);
        lock.unlock();
        call();
      }
      lock.lock();
    }
  }
};

ThreadTimer::ThreadTimer()
    : pending_(std::make_shared<Pending>()),
      thread_([pending = pending_](const std::stop_token& stop) { pending->run(stop); }) {}

ThreadTimer::~ThreadTimer() = default;

Timer::Alarm ThreadTimer::after(std::chrono::milliseconds time, std::function<void()> call) {
  Pending::Key key;
  {
    const std::lock_guard lock(pending_->mutex);
    key = {Pending::Clock::now() + time, pending_->n_alarms++};
    pending_->calls.emplace(key, std::move(call));
  }
  pending_->changed.notify_one();
  return {nullptr, [pending = pending_, key](void*) {
            std::function<void()> dropped;  // destroyed outside the lock
            const std::lock_guard lock(pending->mutex);
            if (const auto found = pending->calls.find(key); found != pending->calls.end()) {
              dropped = std::move(found->second);
              pending->calls.erase(found);
            }
          }};
}

}  // namespace packmule::api
