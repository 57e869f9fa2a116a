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
  const auto second = timer.after(milliseconds(20), [&] {
    order.push_back(2);
    done.set_value();
  });
  const auto first = timer.after(milliseconds(1), [&] { order.push_back(1); });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(ThreadTimer, DoesNotRingWhenTheAlarmIsDropped) {
  ThreadTimer timer;
  std::promise<void> done;
  bool rang = false;
  auto dropped = timer.after(milliseconds(1), [] {});
  dropped = timer.after(milliseconds(30), [&] { rang = true; });
  dropped.reset();
  const auto later = timer.after(milliseconds(31), [&] { done.set_value(); });
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
