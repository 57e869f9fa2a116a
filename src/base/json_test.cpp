#include "base/json.h"

#include <gtest/gtest.h>

namespace packmule {
namespace {

TEST(Json, KeepsTheOrderOfKeys) {
  const auto json = parse_json(R"({"z":1,"a":[2.5,"x"]})", "a test");
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(json->dump(), R"({"z":1,"a":[2.5,"x"]})");
}

TEST(Json, RefusesWhatWouldOverflowTheStack) {
  const auto deep = parse_json(std::string(400000, '['), "the body");
  ASSERT_FALSE(deep.has_value());
  EXPECT_EQ(deep.error().message, "the body: JSON nested deeper than 64 levels at byte 64");
  EXPECT_TRUE(parse_json("\"" + std::string(100, '[') + "\"", "a string").has_value());
  EXPECT_TRUE(parse_json(R"("a\"[[[")", "an escape", {.max_bytes = 100, .max_depth = 1}).has_value());
}

TEST(Json, RefusesObjectsThatWouldTakeHoursToRead) {
  const auto object_of = [](int n) {
    std::string text = "[{}, {";
    for (int i = 0; i < n; ++i) text += fmt::format("{}\"k{}:\":{{\"a\":1}}", i == 0 ? "" : ",", i);
    return text + "}]";
  };
  const auto largest = parse_json(object_of(4096), "the body");
  ASSERT_TRUE(largest.has_value());
  EXPECT_EQ((*largest)[1].size(), 4096u);
  const auto large = parse_json(object_of(4097), "the body");
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().message.rfind("the body: a JSON object with more than 4096 members at byte ", 0),
            0u);
  EXPECT_FALSE(parse_json("]]]]:::::", "too many ends").has_value());
}

TEST(Json, SaysWhereItIsBroken) {
  for (const char* text : {"", "{", "{\"a\":}", "[1,]", "nul", "\"\xff\"", "1 2"}) {
    const auto bad = parse_json(text, "the body");
    ASSERT_FALSE(bad.has_value()) << text;
    EXPECT_EQ(bad.error().message.rfind("the body: not valid JSON: ", 0), 0u) << bad.error().message;
  }
  EXPECT_FALSE(parse_json("[1,2]", "the body", {.max_bytes = 4, .max_depth = 8}).has_value());
}

}  // namespace
}  // namespace packmule
