#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

namespace packmule {
namespace {

TEST(ThreadPool, CallsEveryItemExactlyOnce) {
  for (int n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (int64_t n_items : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(n_items));
      pool.run(n_items, [&](int64_t item, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, n_threads);
        calls[static_cast<size_t>(item)]++;
      });
      for (const auto& count : calls) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPool, ManyShortJobsInARowKeepTheirResultsApart) {
  ThreadPool pool(4);
  for (int64_t job = 0; job < 20000; ++job) {
    std::atomic<int64_t> sum{0};
    pool.run(5, [&](int64_t item, int) { sum += item + job; });
    ASSERT_EQ(sum.load(), 10 + 5 * job);
  }
}

// Workers that come late to a job must take nothing of it, and nothing of the next before it is open.
TEST(ThreadPool, JobsOfChangingSizeKeepTheirItemsApart) {
  ThreadPool pool(8);
  std::vector<std::atomic<int>> calls(64);
  for (uint32_t job = 0; job < 20000; ++job) {
    const int64_t n_items = 2 + (job * 2654435761u >> 26) % 62;
    for (auto& count : calls) count.store(0, std::memory_order_relaxed);
    pool.run(n_items, [&](int64_t item, int) { calls[static_cast<size_t>(item)]++; });
    for (int64_t item = 0; item < 64; ++item)
      ASSERT_EQ(calls[static_cast<size_t>(item)].load(), item < n_items ? 1 : 0)
          << "job " << job << ", item " << item;
  }
}

TEST(ThreadPool, WakesAfterItFellAsleep) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> count{0};
    pool.run(64, [&](int64_t, int) { ++count; });
    EXPECT_EQ(count.load(), 64);
  }
}

}  // namespace
}  // namespace packmule
