#include "chat/reasoning.h"

#include <gtest/gtest.h>

#include <vector>

namespace packmule::chat {
namespace {

struct Case {
  bool inside;
  std::string_view text;
  std::string_view reasoning;
  std::string_view content;
};

const std::vector<Case> kCases = {
    {false, "", "", ""},
    {true, "", "", ""},
    {false, "Hello", "", "Hello"},
    {false, "  Hello \n", "", "  Hello \n"},
    {false, " \n", "", " \n"},
    {false, "<", "", "<"},
    {false, "\n<thin", "", "\n<thin"},
    {false, "<thinker> no", "", "<thinker> no"},
    {false, "a <think>b</think>", "", "a <think>b</think>"},
    {false, "a</think>b", "", "a</think>b"},
    {false, "<think>why</think>because", "why", "because"},
    {false, " \n<think>\n why not \n</think>\n\n because \n", "why not", "because \n"},
    {false, "<think></think>x", "", "x"},
    {false, "<think>\n\n</think>\n\nx", "", "x"},
    {true, "so\n</think>\n\nanswer", "so", "answer"},
    {true, "\nso, a < b </ think>\n\n</think>answer </think> <think>", "so, a < b </ think>",
     "answer </think> <think>"},
    {true, "cut in the middle \n", "cut in the middle", ""},
    {true, "cut in the tag \n</thin", "cut in the tag \n</thin", ""},
    {true, "a</</think>b", "a</", "b"},
    {true, "a</thi</think>b", "a</thi", "b"},
    {true, "thought only</think>\n", "thought only", ""},
    {true, "</think>b", "", "b"},
    {true, "<think>twice</think>b", "twice", "b"},
    {false, "<think>\n<think> thrice</think>b<think>", "thrice", "b<think>"},
    {true, "\xc3\xa4\xe4\xbd\xa0</think>\xf0\x9f\x98\x80", "\xc3\xa4\xe4\xbd\xa0", "\xf0\x9f\x98\x80"},
};

void expect_split(const Case& c, const std::vector<std::string_view>& parts) {
  ReasoningSplitter splitter(c.inside);
  std::string reasoning, content;
  for (const auto part : parts) {
    const auto delta = splitter.push(part);
    // What is handed out stays handed out: no answer before the thought has ended.
    EXPECT_TRUE(content.empty() || delta.reasoning.empty()) << c.text;
    reasoning += delta.reasoning;
    content += delta.content;
  }
  const auto last = splitter.finish();
  reasoning += last.reasoning;
  content += last.content;
  EXPECT_EQ(reasoning, c.reasoning) << "text: " << c.text;
  EXPECT_EQ(content, c.content) << "text: " << c.text;
}

TEST(Reasoning, SplitsWholeTexts) {
  for (const Case& c : kCases) expect_split(c, {c.text});
}

TEST(Reasoning, SplitsTextsCutInTwoAtEveryByte) {
  for (const Case& c : kCases)
    for (size_t cut = 0; cut <= c.text.size(); ++cut)
      expect_split(c, {c.text.substr(0, cut), c.text.substr(cut)});
}

TEST(Reasoning, SplitsTextsCutInThreeAndByteByByte) {
  for (const Case& c : kCases) {
    for (size_t a = 0; a <= c.text.size(); ++a)
      for (size_t b = a; b <= c.text.size(); ++b)
        expect_split(c, {c.text.substr(0, a), c.text.substr(a, b - a), c.text.substr(b)});
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < c.text.size(); ++i) bytes.push_back(c.text.substr(i, 1));
    expect_split(c, bytes);
  }
}

TEST(Reasoning, HandsTextOutAsSoonAsItIsCertain) {
  ReasoningSplitter splitter(true);
  EXPECT_EQ(splitter.push("one ").reasoning, "one");
  EXPECT_EQ(splitter.push("two").reasoning, " two");
  EXPECT_EQ(splitter.push("</thi").reasoning, "");
  EXPECT_EQ(splitter.push("nk>").reasoning, "");
  EXPECT_EQ(splitter.push("answer ").content, "answer ");
}

TEST(Reasoning, KnowsAPromptThatOpensTheThought) {
  EXPECT_TRUE(opens_reasoning("<|im_start|>assistant\n<think>\n"));
  EXPECT_TRUE(opens_reasoning("<think>"));
  EXPECT_FALSE(opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
  EXPECT_FALSE(opens_reasoning("<|im_start|>assistant\n"));
  EXPECT_FALSE(opens_reasoning(""));
}

}  // namespace
}  // namespace packmule::chat
