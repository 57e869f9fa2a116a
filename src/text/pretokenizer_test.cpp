#include "text/pretokenizer.h"

#include <gtest/gtest.h>

namespace packmule::text {
namespace {

std::vector<std::string> pieces(const Pretokenizer& pretokenizer, const std::string& text) {
  auto workspace = Pretokenizer::Workspace::create();
  EXPECT_TRUE(workspace.has_value());
  std::vector<size_t> ends = {99};  // replaced
  EXPECT_TRUE(pretokenizer.split(text, *workspace, ends).has_value());
  std::vector<std::string> result;
  size_t begin = 0;
  for (const size_t end : ends) {
    result.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return result;
}

using Pieces = std::vector<std::string>;

// Expected values by the official tokenizer, each of them a rule of its own.
TEST(Pretokenizer, CutsAsTheOfficialOne) {
  auto pretokenizer = Pretokenizer::create();
  ASSERT_TRUE(pretokenizer.has_value()) << pretokenizer.error().message;
  const auto cut = [&](const std::string& text) { return pieces(**pretokenizer, text); };
  EXPECT_EQ(cut(""), Pieces{});
  EXPECT_EQ(cut("don'T stop 12"), (Pieces{"don", "'T", " stop", " ", "1", "2"}));
  EXPECT_EQ(cut("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(cut("a \n\n  b!?\n"), (Pieces{"a", " \n\n", " ", " b", "!?\n"}));
  EXPECT_EQ(cut("e\u0301x"), (Pieces{"e", "\u0301x"}));              // marks are not letters
  EXPECT_EQ(cut("!\u180E!"), (Pieces{"!\u180E!"}));                  // nor is this one white space
  EXPECT_EQ(cut("!\u3000!"), (Pieces{"!", "\u3000", "!"}));          // as this one is
  EXPECT_EQ(cut("b\U0002EBF0b"), (Pieces{"b\U0002EBF0b"}));          // a letter of Unicode 15.1
  EXPECT_EQ(cut("b\U00016D40b"), (Pieces{"b\U00016D40b"}));          // a letter of Unicode 16
  EXPECT_EQ(cut("b\U00016D70b"), (Pieces{"b", "\U00016D70", "b"}));  // a digit of Unicode 16
}

// Room on the stack, or steps in its square, would run out here.
TEST(Pretokenizer, LongPiecesAreLinear) {
  auto pretokenizer = Pretokenizer::create();
  ASSERT_TRUE(pretokenizer.has_value()) << pretokenizer.error().message;
  for (const char c : {'a', ' ', '!', '\n'}) {
    const std::string text(10'000'000, c);
    EXPECT_EQ(pieces(**pretokenizer, text), Pieces{text}) << c;
    EXPECT_EQ(pieces(**pretokenizer, text + "a").size(), c == 'a' ? 1u : 2u) << c;
  }
}

TEST(Pretokenizer, NormalizesAsUnicode9) {
  auto pretokenizer = Pretokenizer::create();
  ASSERT_TRUE(pretokenizer.has_value()) << pretokenizer.error().message;
  const auto nfc = [&](const std::string& text) {
    std::string storage = "left over";
    auto normal = (*pretokenizer)->normalize(text, storage);
    EXPECT_TRUE(normal.has_value());
    return std::string(normal.value_or(""));
  };
  EXPECT_EQ(nfc(""), "");
  EXPECT_EQ(nfc("cafe\u0301"), "caf\u00E9");
  EXPECT_EQ(nfc("\u1100\u1161\u11A8"), "\uAC01");
  EXPECT_EQ(nfc("a\u0301\u0323"), "\u1EA1\u0301");  // reordered, then composed
  EXPECT_EQ(nfc("\u212B"), "\u00C5");
  // Of later versions: a mark (11) that would let the accent through, a pair (13) that would compose.
  EXPECT_EQ(nfc("e\u0301a\u08D3\u0301"), "\u00E9a\u08D3\u0301");
  EXPECT_EQ(nfc("e\u0301\U00011935\U00011930"), "\u00E9\U00011935\U00011930");
}

}  // namespace
}  // namespace packmule::text
