#include "base/system_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace packmule {
namespace {

TEST(SystemMemory, IsMoreThanThisTestNeedsAndNoMoreThanThereIs) {
  const int64_t available = available_memory_bytes();
  EXPECT_GT(available, int64_t{1} << 20);
  EXPECT_LE(available, int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE));
}

}  // namespace
}  // namespace packmule
