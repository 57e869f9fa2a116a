#include "grammar/gbnf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grammar/machine.h"

namespace packmule::grammar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

enum class Verdict { kNo, kBeginning, kWhole };

Verdict match(Machine& machine, std::string_view text) {
  ConfigId config = machine.start();
  for (const char c : text) config = machine.step(config, static_cast<uint8_t>(c));
  EXPECT_FALSE(machine.overflowed());
  return machine.complete(config)   ? Verdict::kWhole
         : config != Machine::kDead ? Verdict::kBeginning
                                    : Verdict::kNo;
}

struct Case {
  const char* grammar;
  std::vector<std::string> whole, beginning, no;
};

void check(const Case& c) {
  SCOPED_TRACE(c.grammar);
  const auto grammar = compile_gbnf(c.grammar);
  ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
  Machine machine(*grammar);
  for (const auto& text : c.whole) EXPECT_EQ(match(machine, text), Verdict::kWhole) << text;
  for (const auto& text : c.beginning) EXPECT_EQ(match(machine, text), Verdict::kBeginning) << text;
  for (const auto& text : c.no) EXPECT_EQ(match(machine, text), Verdict::kNo) << text;
}

TEST(Gbnf, MatchesWhatItSays) {
  check({R"g(root ::= "a" "bc")g", {"abc"}, {"", "a", "ab"}, {"b", "abcd", "abd"}});
  check({R"g(root ::= "a" | "bc" | "")g", {"", "a", "bc"}, {"b"}, {"ab", "c"}});
  check({R"g(root ::= [a-cx]* "!"?)g", {"", "!", "abcx!", "xx"}, {}, {"d", "!!", "a!b"}});
  check({R"g(root ::= [^a-c\n]+)g",
         {"d", "\xc3\xa4 z", "\xf0\x9f\x98\x80"},
         {"", "\xc3", "\xf0\x9f"},
         {"a", "\n", "\x80", "\xc3\x28", "\xed\xa0\x80", "\xc0\xaf", "\xf5"}});
  check({R"g(root ::= .)g", {"a", "\n", "\xe2\x82\xac"}, {"", "\xe2\x82"}, {"ab", "\xff"}});
  check({R"g(root ::= [ぁ-ゟ]{2})g", {"ぁゟ"}, {"", "ぁ", "\xe3\x81"}, {"a", "ァ", "ぁゟぁ"}});
  check(
      {R"g(root ::= "\x41\u00e4\U0001F600\n\t\"\\")g", {"A\xc3\xa4\xf0\x9f\x98\x80\n\t\"\\"}, {"A"}, {"B"}});
  check({R"g(root ::= [\]\-\\^"])g", {"]", "-", "\\", "^", "\""}, {""}, {"a"}});
  check({R"g(root ::= [a-])g", {"a", "-"}, {""}, {"b"}});
}

TEST(Gbnf, Repetition) {
  check({R"g(root ::= "ab"{2})g", {"abab"}, {"", "ab", "aba"}, {"ababa", "b"}});
  check({R"g(root ::= "a"{2,})g", {"aa", "aaaaaaa"}, {"", "a"}, {"b"}});
  check({R"g(root ::= "a"{1,3} "b")g", {"ab", "aaab"}, {"a", "aaa"}, {"b", "aaaa", "aaaab"}});
  check({R"g(root ::= ("a" | "b"){0,2} "c"{0})g", {"", "a", "ba"}, {}, {"c", "aba"}});
  check({R"g(root ::= ("a"? "b"*)* "c")g", {"c", "abbac"}, {"", "aa"}, {"d"}});
}

std::string times(size_t n, std::string_view what) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += what;
  return out;
}

TEST(Gbnf, LongRepetitionsAreCounted) {
  const auto many = [](size_t n) { return times(n, "x"); };
  check({R"g(root ::= [a-z]{3,1000} "!")g",
         {many(3) + "!", many(1000) + "!"},
         {many(1000), ""},
         {many(2) + "!", many(1001)}});
  check({R"g(root ::= [a-z]{800,} [a-z!]?)g",
         {many(800), many(801), many(900) + "!"},
         {many(799)},
         {many(799) + "!", "!"}});
  // What is repeated may call rules, match nothing, or be the beginning of something else it matches.
  check({R"g(root ::= ("(" root ")" | "x"){500} )g",
         {many(499) + "(" + many(500) + ")"},
         {many(499), "(x"},
         {many(501), "()"}});
  check({R"g(root ::= ("x" "y"?){2,600} )g",
         {"xx", "xyx", times(600, "xy")},
         {"x", "xy"},
         {"y", times(601, "x"), "xyy"}});
  check({R"g(root ::= ("x"?){600} "y")g", {"y", "xy", many(600) + "y"}, {""}, {many(601), "z"}});
  check({R"g(root ::= "<" ("x"{0,500} ";"){300,301} ">")g",
         {"<" + times(300, ";") + ">", "<" + times(301, "xx;") + ">"},
         {"<", "<" + many(500)},
         {"<" + times(299, ";") + ">", "<" + times(302, ";"), "<" + many(501)}});
}

TEST(Gbnf, RulesThatCallThemselves) {
  check({R"g(root ::= "(" root* ")")g", {"()", "(()(()))"}, {"", "(()"}, {")", "())"}});
  check({R"g(root ::= "a" root "b" | "c")g", {"c", "acb", "aacbb"}, {"aa", "aac"}, {"b", "acbb"}});
  check({"root ::= \"a\" root | \"a\"", {"a", times(5000, "a")}, {""}, {"b", "ab"}});
  check({"root ::= a\na ::= b? \"x\" a | \"y\"\nb ::= \"z\" a", {"y", "xy", "zyxy"}, {"z", "zy"}, {"zz x"}});
  // Many readings of the same text.
  check({R"g(root ::= ("a" root | root2 | "a")  | ""
            root2 ::= "a" root "a"?)g",
         {"", "a", times(300, "a")},
         {},
         {"b"}});
}

TEST(Gbnf, LinesAndComments) {
  check(
      {"# a comment\n\nroot ::= # another\n  \"a\" |  # more\n  \"b\" (\n \"c\" #\n | \"d\" )\r\nother ::= "
       "\"x\"\n",
       {"a", "bc", "bd"},
       {"", "b"},
       {"x"}});
  check({"root ::= x-1_Y\nx-1_Y ::= \"#\"", {"#"}, {""}, {"x"}});
}

TEST(Gbnf, SaysWhatIsWrongAndWhere) {
  const auto refused = [](std::string_view text) {
    const auto grammar = compile_gbnf(text);
    EXPECT_FALSE(grammar.has_value()) << text;
    return grammar ? std::string() : grammar.error().message;
  };
  EXPECT_THAT(refused(""), HasSubstr("no rule 'root'"));
  EXPECT_THAT(refused("root ::= \"a"), AllOf(HasSubstr("line 1, column 12"), HasSubstr("does not end")));
  EXPECT_THAT(refused("root ::= (\"a\""), HasSubstr("expected ')'"));
  EXPECT_THAT(refused("root ::= \"a\"\nx = \"b\""), AllOf(HasSubstr("line 2, column 3"), HasSubstr("'::='")));
  EXPECT_THAT(refused("root ::= nothing"), AllOf(HasSubstr("column 10"), HasSubstr("'nothing' is used but")));
  EXPECT_THAT(refused("root ::= \"a\"\nroot ::= \"b\""), HasSubstr("defined twice"));
  EXPECT_THAT(refused("root ::= [b-a]"), HasSubstr("backwards"));
  EXPECT_THAT(refused("root ::= []"), HasSubstr("empty"));
  EXPECT_THAT(refused("root ::= \"\\q\""), HasSubstr("unknown escape"));
  EXPECT_THAT(refused("root ::= \"\\ud800\""), HasSubstr("no character"));
  EXPECT_THAT(refused("root ::= \"a\"{3,2}"), HasSubstr("below"));
  EXPECT_THAT(refused("root ::= \"a\"{x}"), HasSubstr("expected {n}"));
  EXPECT_THAT(refused("root ::= \"a\"{100001}"), HasSubstr("100000"));
  EXPECT_THAT(refused("root ::= <think>"), HasSubstr("in quotes"));
  EXPECT_THAT(refused("root ::= \"a\" )"), HasSubstr("end of the rule"));
  EXPECT_THAT(refused("root ::= \"\xff\""), HasSubstr("UTF-8"));
  EXPECT_THAT(refused("root ::= " + std::string(100, '(')), HasSubstr("deeper"));
  EXPECT_THAT(refused("root ::= root \"a\" | \"b\""), HasSubstr("'root' is left-recursive"));
  EXPECT_THAT(refused("root ::= a\na ::= \"x\"? b\nb ::= a \"y\" | \"z\""), HasSubstr("left-recursive"));
  EXPECT_THAT(refused("root ::= \"a\" root"), HasSubstr("no text at all"));
}

TEST(Gbnf, WhatCannotBeCompletedIsNotBegun) {
  check({"root ::= \"a\" dead | \"b\"\ndead ::= \"x\" dead", {"b"}, {""}, {"a", "ax"}});
}

TEST(Gbnf, HostileGrammarsEndInAnError) {
  std::string nested = "[a-z]";
  for (int i = 0; i < 6; ++i) nested = "(" + nested + "[b-y]?){90}";
  const auto many = compile_gbnf("root ::= " + nested);
  if (many) {
    EXPECT_LT((*many)->n_states(), size_t{200'000});
  }
  // "An x, then 40 letters" has two to the 40 states as a deterministic automaton; it is read as it stands.
  check({R"g(root ::= [xy]* "x" [xy]{40})g", {"yyx" + times(40, "xy").substr(0, 40)}, {"", "yy"}, {"z"}});
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 20000; ++i)
    chain += "r" + std::to_string(i) + " ::= \"a\" r" + std::to_string(i + 1) + " | r" +
             std::to_string(i + 1) + "\n";
  (void)compile_gbnf(chain + "r20000 ::= \"b\"");
}

}  // namespace
}  // namespace packmule::grammar
