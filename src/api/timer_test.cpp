#include "api/timer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace packmule::api {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

TEST(ThreadTimer, RingsInTheOrderOfTimes) {
  ThreadTimer timer;
  std::promise<void> done;
  std::vector<int> order;  // of one thread
  const auto never = timer.after(hours(1), [&] { order.push_back(0); });
  // Longer than a loaded machine takes to the next statement.
  const auto second = timer.after(milliseconds(500), [&] {
    order.push_back(2);
    done.set_value();
  });
  const auto first = timer.after(milliseconds(1), [&] { order.push_back(1); });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(ThreadTimer, DoesNotRingWhenTheAlarmIsDropped) {
  ThreadTimer timer;
  std::promise<void> dropped_all, done;
  bool rang = false;
  // Keeps the timer's thread until the others are dropped, however late that is.
  const auto before = timer.after(milliseconds(0), [&] { dropped_all.get_future().wait(); });
  auto dropped = timer.after(milliseconds(1), [&] { rang = true; });
  dropped = timer.after(milliseconds(2), [&] { rang = true; });
  dropped.reset();
  const auto later = timer.after(milliseconds(3), [&] { done.set_value(); });
  dropped_all.set_value();
  done.get_future().wait();
  EXPECT_FALSE(rang);
}

TEST(ThreadTimer, ACallMayDropItsOwnAlarm) {
  ThreadTimer timer;
  std::promise<void> set, done;
  Timer::Alarm alarm;
  alarm = timer.after(milliseconds(0), [&] {
    set.get_future().wait();
    alarm.reset();
    done.set_value();
  });
  set.set_value();
  done.get_future().wait();
  EXPECT_EQ(alarm, nullptr);
}

TEST(ThreadTimer, AnAlarmMayOutliveIt) {
  Timer::Alarm alarm;
  {
    ThreadTimer timer;
    alarm = timer.after(hours(1), [] { FAIL(); });
  }
  alarm.reset();
}

}  // namespace
}  // namespace packmule::api
