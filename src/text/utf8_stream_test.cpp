#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "text/tokenizer.h"

namespace packmule::text {
namespace {

const std::string kFffd = "\xEF\xBF\xBD";

std::string decode_whole(const std::string& bytes) {
  Utf8Stream stream;
  std::string text = stream.push(bytes);
  return text + stream.finish();
}

/// Strings that are likely to sit on the edges: every interesting byte is frequent.
std::string random_bytes(std::mt19937& random) {
  static const std::vector<std::string> kParts = {"a",
                                                  "\xC3\xA9",
                                                  "\xE2\x82\xAC",
                                                  "\xF0\x9F\x98\x80",
                                                  "\xE0",
                                                  "\xED",
                                                  "\xF0",
                                                  "\xF4",
                                                  "\x80",
                                                  "\xBF",
                                                  "\x9F",
                                                  "\xA0",
                                                  "\x8F",
                                                  "\x90",
                                                  "\xC0",
                                                  "\xC1",
                                                  "\xF5",
                                                  "\xFF",
                                                  "\xF0\x9F",
                                                  "\xF0\x9F\x98",
                                                  "\xE2\x82",
                                                  "\xED\xA0\x80",
                                                  "\xC3",
                                                  std::string(1, '\0'),
                                                  kFffd,
                                                  "\xF4\x90\x80\x80",
                                                  "\xC0\xAF",
                                                  "\xE0\x80\xAF",
                                                  "\xF0\x80",
                                                  "z"};
  std::string text;
  for (size_t n = random() % 12; n > 0; --n) text += kParts[random() % kParts.size()];
  return text;
}

// Expected values by CPython: bytes(...).decode("utf-8", "replace").
TEST(Utf8Stream, ReplacesMaximalSubparts) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x80", kFffd},
      {"\xC0\xAF", kFffd + kFffd},
      {"\xE0\x80\xAF", kFffd + kFffd + kFffd},
      {"\xED\xA0\x80", kFffd + kFffd + kFffd},
      {"\xF0\x9F\x98", kFffd},
      {"\xF0\x9F\x98z", kFffd + "z"},
      {"\xF4\x90\x80\x80", kFffd + kFffd + kFffd + kFffd},
      {"\xF1\x80\x80\xE1\x80\xC2", kFffd + kFffd + kFffd},
      {"a\xF1\x80\x80\xE1\x80\xC2"
       "b\x80"
       "c\x80\xBF"
       "d",
       std::string("a") + kFffd + kFffd + kFffd + "b" + kFffd + "c" + kFffd + kFffd + "d"},
      {"\xF4\x8F\xBF\xBF\xEE\x80\x80", "\xF4\x8F\xBF\xBF\xEE\x80\x80"},
  };
  for (const auto& [bytes, text] : cases)
    EXPECT_EQ(decode_whole(bytes), text) << testing::PrintToString(bytes);
}

TEST(Utf8Stream, AnyCutGivesTheSameText) {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    const std::string bytes = random_bytes(random);
    const std::string whole = decode_whole(bytes);
    EXPECT_EQ(find_invalid_utf8(whole), whole.size());
    for (int cut = 0; cut < 4; ++cut) {
      Utf8Stream stream;
      std::string text;
      for (size_t at = 0; at < bytes.size();) {
        const size_t n = cut == 0 ? 1 : random() % (bytes.size() - at + 1);  // 0: an empty push
        const std::string piece = stream.push(std::string_view(bytes).substr(at, n));
        EXPECT_EQ(find_invalid_utf8(piece), piece.size()) << "half a character left the stream";
        text += piece;
        at += n;
      }
      text += stream.finish();
      ASSERT_EQ(text, whole) << testing::PrintToString(bytes);
      EXPECT_EQ(stream.finish(), "");
    }
  }
}

TEST(Utf8Stream, GivesACharacterWithItsLastByte) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("\xF0"), "");
  EXPECT_EQ(stream.push("\x9F\x98"), "");
  EXPECT_EQ(stream.push("\x80!"), "\xF0\x9F\x98\x80!");
  EXPECT_EQ(stream.push("\xE2"), "");
  EXPECT_EQ(stream.push("\xE2"), kFffd);  // the first can no longer become a character
  EXPECT_EQ(stream.push("\x82\xAC"), "\xE2\x82\xAC");
}

TEST(Utf8, EveryCodePointIsOneCharacter) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    std::string text;
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
    if (c < 0x80) {
      text.push_back(static_cast<char>(c));
    } else if (c < 0x800) {
      text.append({static_cast<char>(0xC0 | c >> 6), tail(0)});
    } else if (c < 0x10000) {
      text.append({static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)});
    } else {
      text.append({static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)});
    }
    const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    ASSERT_EQ(find_invalid_utf8(text), surrogate ? 0 : text.size()) << std::hex << c;
  }
}

TEST(Utf8, TellsWhereTheFirstBadByteIs) {
  EXPECT_EQ(find_invalid_utf8(""), 0u);
  for (size_t n = 0; n < 40; ++n) {
    const std::string ascii(n, 'a');
    EXPECT_EQ(find_invalid_utf8(ascii + "\xFF" + ascii), n);
    EXPECT_EQ(find_invalid_utf8(ascii + "\xC3\xA9" + ascii + "\xE2\x82"), 2 * n + 2);
  }
}

}  // namespace
}  // namespace packmule::text
