// One caller at a time, the others wait and can give up.
#pragma once

#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace packmule::engine {

class Turn {
 public:
  /// Holds the turn while it lives; empty when the wait was given up.
  class Guard {
   public:
    explicit Guard(Turn* turn) : turn_(turn) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      if (turn_ != nullptr) turn_->release();
    }
    explicit operator bool() const { return turn_ != nullptr; }

   private:
    Turn* turn_;
  };

  [[nodiscard]] Guard wait(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop, [this] { return !taken_; })) return Guard(nullptr);
    taken_ = true;
    return Guard(this);
  }

 private:
  void release() {
    {
      const std::lock_guard lock(mutex_);
      taken_ = false;
    }
    changed_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool taken_ = false;
};

}  // namespace packmule::engine
