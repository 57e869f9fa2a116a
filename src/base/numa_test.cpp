#include "base/numa.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace packmule {
namespace {

TEST(Numa, ListsOfProcessors) {
  using List = std::vector<int>;
  EXPECT_EQ(parse_cpu_list("0"), List({0}));
  EXPECT_EQ(parse_cpu_list("0-3,8,10-11"), List({0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parse_cpu_list("4,1-2,2"), List({1, 2, 4}));
  for (const char* wrong : {"", ",", "1,", "1-", "-1", "3-1", "a", "1 2", "0-99999999", "99999999999999"})
    EXPECT_FALSE(parse_cpu_list(wrong)) << wrong;
}

/// A system of two nodes, written into a folder: node 0 has no processor of this machine, node 1 has `cpus`.
class TwoNodes : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_ / "node0");
    std::filesystem::create_directories(folder_ / "node1");
    write("has_memory", "0-1");
    write("node0/cpulist", "60000-60001");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text << "\n";
  }
  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / ("packmule_two_nodes_" + std::to_string(getpid()));
};

/// What work() leaves of the processors a thread may use; a thread of its own, so that the test is not bound.
template <class Work>
int processors_after(Work&& work) {
  int count = 0;
  std::thread([&] {
    work();
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    count = CPU_COUNT(&set);
  }).join();
  return count;
}

bool run_on(const cpu_set_t& set) {
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

TEST_F(TwoNodes, IsolateKeepsThreadsOnTheNodeTheyRunOn) {
  EXPECT_EQ(processors_after([&] {
              // Between looking and asking a thread may be moved: then it is on no node, and we look again.
              Status status = fail(ErrorKind::kInternal, "not tried");
              for (int attempt = 0; attempt < 1000 && !status; ++attempt) {
                write("node1/cpulist", std::to_string(sched_getcpu()));
                status = apply_numa(Numa::kIsolate, folder_.string());
              }
              EXPECT_TRUE(status) << status.error().message;
            }),
            1);
}

TEST_F(TwoNodes, IsolateAddsNoProcessorThatWasForbidden) {
  write("node1/cpulist", "0-1023");
  EXPECT_EQ(processors_after([&] {
              cpu_set_t only;
              CPU_ZERO(&only);
              CPU_SET(sched_getcpu(), &only);
              EXPECT_TRUE(run_on(only));
              const auto status = apply_numa(Numa::kIsolate, folder_.string());
              EXPECT_TRUE(status) << status.error().message;
            }),
            1);
}

TEST_F(TwoNodes, AProcessorOfNoNodeIsAnError) {
  write("node1/cpulist", "60002");
  const auto status = apply_numa(Numa::kIsolate, folder_.string());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("lists no node with processor"), std::string::npos);
}

TEST(Numa, OneNodeIsLeftAlone) {
  for (const Numa numa : {Numa::kLeaveAlone, Numa::kDistribute, Numa::kIsolate, Numa::kNumactl})
    EXPECT_TRUE(apply_numa(numa, "/nonexistent"));
}

}  // namespace
}  // namespace packmule
