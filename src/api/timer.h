// Calls functions after a while.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

namespace packmule::api {

class Timer {
 public:
  virtual ~Timer() = default;

  /// As long as it is kept, the call will come.
  using Alarm = std::shared_ptr<void>;
  /// `call` must return soon, and may drop alarms, its own too. One that is dropped while its call is being
  /// made does not wait for it.
  [[nodiscard]] virtual Alarm after(std::chrono::milliseconds time, std::function<void()> call) = 0;
};

/// By the clock, on a thread of its own.
class ThreadTimer : public Timer {
 public:
  ThreadTimer();
  ~ThreadTimer() override;
  [[nodiscard]] Alarm after(std::chrono::milliseconds time, std::function<void()> call) override;

 private:
  struct Pending;
  std::shared_ptr<Pending> pending_;
  std::jthread thread_;
};

}  // namespace packmule::api
