#include "base/read_speed.h"

#include <gtest/gtest.h>

namespace packmule {
namespace {

TEST(ReadSpeed, ReadsEveryWordEveryTurn) {
  ThreadPool pool(2);
  const auto speed = measure_read_speed(pool, 5 << 20, 3);
  ASSERT_TRUE(speed);
  EXPECT_EQ(speed->bytes_per_second.size(), 3u);
  EXPECT_GT(speed->bytes_per_second.front(), 0);
  EXPECT_LE(speed->bytes_per_second.front(), speed->median());
  EXPECT_EQ(speed->checksum, 4 * uint64_t{5 << 17} * 0x0101010101010101u);  // with the turn that warms up
  EXPECT_EQ(measure_read_speed(pool, 1, 0)->bytes_per_second.size(), 1u);
}

}  // namespace
}  // namespace packmule
