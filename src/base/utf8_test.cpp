#include "base/utf8.h"

#include <gtest/gtest.h>

namespace packmule {
namespace {

TEST(Utf8, TellsWellFormedFromMalformed) {
  for (const char* good : {"", "mule", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_valid_utf8(good)) << good;
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "a\xc3(", "\xe0\x9f\xbf", "\xe2\x82", "\xed\xa0\x80",
        "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x9f\x98", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"})
    EXPECT_FALSE(is_valid_utf8(bad)) << bad;
}

TEST(Utf8, PrintableIsOneHarmlessLine) {
  EXPECT_EQ(printable("Ġmule 騾"), "Ġmule 騾");
  EXPECT_EQ(printable("a\nb\tc\\d"), "a\\nb\\tc\\\\d");
  EXPECT_EQ(printable(std::string_view("\x1b[2J\0", 5)), "\\x1b[2J\\x00");
  EXPECT_EQ(printable("\xc3(\xff"), "\\xc3(\\xff");
  EXPECT_EQ(printable("\xc2\x9b\xe2\x80\xae"), "\\x9b\\u202e");
}

TEST(Utf8, PrintableCutsAtACharacter) {
  EXPECT_EQ(printable("abcd", 4), "abcd");
  EXPECT_EQ(printable("abcde", 4), "abcd...");
  EXPECT_EQ(printable("abc騾", 4), "abc...");
  EXPECT_EQ(printable("abc騾", 6), "abc騾");
}

}  // namespace
}  // namespace packmule
