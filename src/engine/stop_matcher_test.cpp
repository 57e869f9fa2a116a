#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace packmule::engine {
namespace {

struct Seen {
  std::string text;
  std::string met;
  bool operator==(const Seen&) const = default;
};

void PrintTo(const Seen& seen, std::ostream* out) {
  *out << "text \"" << seen.text << "\" met \"" << seen.met << "\"";
}

/// As the header defines it: of all occurrences the one with the first end, of those the longest.
Seen by_definition(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string longest;
    for (const std::string& stop : stops)
      if (stop.size() > longest.size() && std::string_view(text).substr(0, end).ends_with(stop))
        longest = stop;
    if (!longest.empty()) return {text.substr(0, end - longest.size()), longest};
  }
  return {text, ""};
}

Seen run(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  StopMatcher matcher(stops);
  std::string text;
  for (const std::string& piece : pieces) text += matcher.push(piece);
  text += matcher.finish();
  return {text, matcher.met()};
}

TEST(StopMatcher, AgreesWithTheDefinitionAtEveryCut) {
  std::mt19937 random(31);
  for (int round = 0; round < 20'000; ++round) {
    const auto word = [&](size_t n) {
      std::string text;
      for (; n > 0; --n) text += static_cast<char>('a' + random() % 2);
      return text;
    };
    const std::string text = word(random() % 16);
    std::vector<std::string> stops(random() % 4);
    for (std::string& stop : stops) stop = word(random() % 6);  // empty ones too
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = random() % 4;
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    ASSERT_EQ(run(pieces, stops), by_definition(text, stops))
        << "round " << round << ": " << text << ", stops " << testing::PrintToString(stops);
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStopString) {
  StopMatcher matcher({"###", "\nUser:"});
  EXPECT_EQ(matcher.push("one # two"), "one # two");
  EXPECT_EQ(matcher.push(" ##"), " ");
  EXPECT_EQ(matcher.push("\nUse"), "##");
  EXPECT_EQ(matcher.push("d\n"), "\nUsed");
  EXPECT_EQ(matcher.push("User: hello"), "");
  EXPECT_EQ(matcher.met(), "\nUser:");
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, GivesBackWhatDidNotBecomeOne) {
  StopMatcher matcher({"stop"});
  EXPECT_EQ(matcher.push("sto"), "");
  EXPECT_EQ(matcher.finish(), "sto");
  EXPECT_EQ(matcher.met(), "");
}

// A comparison that starts over at every byte would need hours.
TEST(StopMatcher, LongStopStringsAreLinear) {
  const std::string stop = std::string(200'000, 'a') + "b";
  StopMatcher matcher({stop});
  const std::string text(2'000'000, 'a');
  EXPECT_EQ(matcher.push(text).size(), text.size() - 200'000);
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_EQ(matcher.met(), stop);
}

}  // namespace
}  // namespace packmule::engine
