#include "base/checksum.h"

#include <gtest/gtest.h>

#include <string_view>

namespace packmule {
namespace {

uint64_t of(std::string_view text, uint64_t seed = 0) {
  return checksum(std::as_bytes(std::span(text)), seed);
}

// Values that other implementations publish.
TEST(Checksum, IsXxh64) {
  EXPECT_EQ(of(""), 0xef46db3751d8e999u);
  EXPECT_EQ(of("a"), 0xd24ec4f1a98c6e5bu);
  EXPECT_EQ(of("abc"), 0x44bc2cf5ad770999u);
  EXPECT_EQ(of("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1u);
}

TEST(Checksum, EveryByteAndTheSeedCount) {
  for (size_t length = 1; length < 80; ++length) {
    std::string text(length, 'x');
    const uint64_t before = of(text);
    EXPECT_NE(of(text, 1), before);
    for (char& c : text) {
      c = 'y';
      EXPECT_NE(of(text), before);
      c = 'x';
    }
  }
}

}  // namespace
}  // namespace packmule
