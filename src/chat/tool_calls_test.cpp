#include "chat/tool_calls.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "chat/reasoning.h"
#include "tests/support/test_data.h"

namespace packmule::chat {
namespace {

struct Answer {
  std::string reasoning;
  std::string content;
  struct Call {
    std::string name;
    std::string arguments;
    bool operator==(const Call&) const = default;
  };
  std::vector<Call> calls;
  bool incomplete = false;
  int n_warnings = 0;
  bool operator==(const Answer&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  out << "reasoning: " << Json(answer.reasoning) << " content: " << Json(answer.content);
  for (const auto& call : answer.calls) out << "\n  " << Json(call.name) << ": " << call.arguments;
  return out << "\n  incomplete: " << answer.incomplete << " warnings: " << answer.n_warnings;
}

bool is_utf8(const std::string& text) {
  return Json::accept('"' + json_escaped(text) + '"');
}

/// Reads an answer as the server does: first the thought, then the calls in what is left.
class Reader {
 public:
  Reader(const Json& tools, bool inside) : splitter_(inside, !tools.is_null()), parser_(tools) {}

  void push(std::string_view piece) { take(splitter_.push(piece)); }
  Answer finish() {
    take(splitter_.finish());
    take(parser_.finish());
    EXPECT_FALSE(open_);
    return answer_;
  }

 private:
  void take(const ReasoningSplitter::Delta& delta) {
    EXPECT_TRUE(is_utf8(delta.reasoning));
    answer_.reasoning += delta.reasoning;
    take(parser_.push(delta.content));
  }
  void take(const std::vector<CallEvent>& events) {
    for (const CallEvent& event : events) {
      EXPECT_TRUE(is_utf8(event.text));
      switch (event.kind) {
        case CallEvent::Kind::kText:
          EXPECT_FALSE(event.text.empty());
          answer_.content += event.text;
          break;
        case CallEvent::Kind::kBegin:
          EXPECT_FALSE(open_);
          EXPECT_FALSE(answer_.incomplete);
          open_ = true;
          answer_.calls.push_back({.name = event.text, .arguments = ""});
          break;
        case CallEvent::Kind::kArguments:
          EXPECT_TRUE(open_);
          EXPECT_FALSE(event.text.empty());
          answer_.calls.back().arguments += event.text;
          break;
        case CallEvent::Kind::kEnd:
          EXPECT_TRUE(open_);
          open_ = false;
          answer_.incomplete = event.incomplete;
          break;
        case CallEvent::Kind::kWarning:
          ++answer_.n_warnings;
          break;
      }
    }
  }

  ReasoningSplitter splitter_;
  ToolCallParser parser_;
  Answer answer_;
  bool open_ = false;
};

Json tools() {
  const auto path = testing_support::find_data("toolcalls/tools.json");
  return path ? testing_support::read_json(*path) : Json();
}

/// The text in parts that end at these offsets.
Answer read(const Json& tools, std::string_view text, bool inside = false,
            const std::vector<size_t>& cuts = {}) {
  Reader reader(tools, inside);
  size_t begin = 0;
  for (const size_t cut : cuts) {
    reader.push(text.substr(begin, cut - begin));
    begin = cut;
  }
  reader.push(text.substr(begin));
  return reader.finish();
}

std::vector<size_t> every_byte(std::string_view text) {
  std::vector<size_t> cuts;
  for (size_t i = 1; i < text.size(); ++i) cuts.push_back(i);
  return cuts;
}

void expect_as_recorded(const Answer& answer, const Json& expected) {
  EXPECT_EQ(answer.reasoning, expected["reasoning_content"]);
  EXPECT_EQ(answer.content, expected["content"]);
  EXPECT_EQ(answer.incomplete, expected["incomplete"]);
  ASSERT_EQ(answer.calls.size(), expected["tool_calls"].size()) << answer;
  for (size_t i = 0; i < answer.calls.size(); ++i) {
    const Json& call = expected["tool_calls"][i];
    EXPECT_EQ(answer.calls[i].name, call["name"]);
    if (call.contains("arguments_text"))
      EXPECT_EQ(answer.calls[i].arguments, call["arguments_text"]);
    else  // compared with the order of the keys
      EXPECT_EQ(Json::parse(answer.calls[i].arguments, nullptr, false), call["arguments"]) << answer;
  }
}

TEST(ToolCalls, ReadsTheRecordedAnswersExactlyWholeAndCutAnywhere) {
  const auto path = testing_support::find_data("toolcalls/cases.jsonl");
  ASSERT_TRUE(path.has_value());
  ASSERT_FALSE(tools().is_null());
  int n_cases = 0;
  for (const Json& one : testing_support::read_json_lines(*path)) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const Json offered = one["tools"] == true ? tools() : Json(nullptr);
    const std::string text = one["text"];
    const bool inside = one["reasoning_open"];
    const Answer whole = read(offered, text, inside);
    expect_as_recorded(whole, one["expected"]);
    for (size_t cut = 1; cut < text.size(); ++cut)
      ASSERT_EQ(read(offered, text, inside, {cut}), whole) << cut;
    ASSERT_EQ(read(offered, text, inside, every_byte(text)), whole);
    ++n_cases;
  }
  EXPECT_GT(n_cases, 0);
}

struct Case {
  std::string_view text;
  std::string_view content;
  std::vector<Answer::Call> calls;
  int n_warnings = 0;
  bool incomplete = false;
};

// What the recorded answers leave open.
const std::vector<Case> kCases = {
    // Only after a call does white space at the edges go.
    {"  a \n", "  a \n", {}},
    {"  a \n<tool_call><function=ping></function></tool_call> \n b \n", "  a\nb", {{"ping", "{}"}}},
    {"\n<tool_call><function=ping></function></tool_call>", "", {{"ping", "{}"}}},
    // The other form than that of the template, and both in one block.
    {"<tool_call>{\"name\": \"ping\"}<function=ping></function></tool_call>",
     "",
     {{"ping", "{}"}, {"ping", "{}"}}},
    // Starts that are none.
    {"<tool_call><tool_call> a <tool_call>", "<tool_call><tool_call> a <tool_call>", {}},
    {"<tool_call>\n<function=a\nb>x", "<tool_call>\n<function=a\nb>x", {}, 1},
    {"<tool_call>\n<function=>", "<tool_call>\n<function=>", {}, 1},
    {"x <function=ping></function>", "x <function=ping></function>", {}},
    {"<tool_call>{\"name\": 1, \"arguments\": {}}", "<tool_call>{\"name\": 1, \"arguments\": {}}", {}, 1},
    {"<tool_call>{\"arguments\": {}}", "<tool_call>{\"arguments\": {}}", {}, 1},
    {"<tool_call>{\"arguments\": {\"a\": x}, \"name\": \"ping\"}",
     "<tool_call>{\"arguments\": {\"a\": x}, \"name\": \"ping\"}",
     {},
     1},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": {'a': 1}}",
     "<tool_call>{\"name\": \"ping\", \"arguments\": {'a': 1}}",
     {},
     1},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": \"Oslo\"}",
     "<tool_call>{\"name\": \"ping\", \"arguments\": \"Oslo\"}",
     {},
     1},
    // A call behind a start that was none.
    {"<tool_call>{'name': 1}</tool_call><tool_call>{\"name\":\"ping\"}</tool_call>",
     "<tool_call>{'name': 1}</tool_call>",
     {{"ping", "{}"}},
     1},
    // JSON.
    {"<tool_call>{\"name\": \"ping\", \"arguments\": \"\"}</tool_call>", "", {{"ping", "{}"}}},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": null}</tool_call>", "", {{"ping", "{}"}}},
    {"<tool_call>{\"id\": [1, \"]\"], \"name\": \"ping\", \"arguments\": { }, \"x\": 1.5}",
     "",
     {{"ping", "{ }"}}},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": {\"a\": 1}\n</tool_call>b",
     "b",
     {{"ping", "{\"a\": 1}"}},
     1},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": {\"a\": 1}", "", {{"ping", "{\"a\": 1}"}}, 0, true},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": {", "", {{"ping", "{"}}, 0, true},
    {"<tool_call>{\"name\": \"ping\", \"arguments\": {\"a\": 1,}}", "", {{"ping", "{\"a\": 1,}"}}, 1},
    {"<tool_call>{\"name\": \"p\\u00e4\"}}}</tool_call>", "", {{"p\u00e4", "{}"}}},
    {"<tool_call>{\"name\": \"ping\"}} a", "} a", {{"ping", "{}"}}},
    {"<tool_call>{\"name\": \"ping\"}</tool_c", "", {{"ping", "{}"}}},
    // XML.
    {"<tool_call><function=ping>a<b>c</function></tool_call>d", "a<b>c\nd", {{"ping", "{}"}}, 1},
    {"<tool_call><function=get_weather><parameter=city>a</parameter>\n<par",
     "",
     {{"get_weather", "{\"city\": \"a\"}"}},
     0,
     true},
    {"<tool_call><function=get_weather><parameter=city>a</parameter>\n<parameter=da",
     "",
     {{"get_weather", "{\"city\": \"a\"}"}},
     0,
     true},
    {"<tool_call><function=get_weather><parameter=city>a\n</parameter>\n</func",
     "",
     {{"get_weather", "{\"city\": \"a\"}"}},
     0,
     true},
    {"<tool_call><function=get_weather><parameter=days>3", "", {{"get_weather", "{\"days\": 3}"}}, 0, true},
    {"<tool_call><function=f><parameter=a>\r\n\r\nb\rc\r\n\r</parameter></function>",
     "",
     {{"f", "{\"a\": \"\\r\\nb\\rc\\r\\n\\r\"}"}}},
    {"<tool_call><function=f><parameter=a>\n<parameter "
     "x=\"/\"/>\n<parameters>\n<parameter>1</parameter>\n</parameter>\n"
     "</parameter>\n</parameter></function>",
     "",
     {{"f", "{\"a\": \"<parameter x=\\\"/\\\"/>\\n<parameters>\\n<parameter>1</parameter>\"}"}}},
    {"<tool_call><function=ping></function></tool_call><function=ping></function><function=x>",
     "<function=x>",
     {{"ping", "{}"}, {"ping", "{}"}}},
    {"<tool_call><function=f><parameter=\"a\\\">1</parameter></function>",
     "",
     {{"f", "{\"\\\"a\\\\\\\"\": \"1\"}"}}},
};

TEST(ToolCalls, ReadsWhatModelsMayWrite) {
  for (const Case& c : kCases) {
    const Answer expected{.content = std::string(c.content),
                          .calls = c.calls,
                          .incomplete = c.incomplete,
                          .n_warnings = c.n_warnings};
    EXPECT_EQ(read(tools(), c.text), expected) << c.text;
    EXPECT_EQ(read(tools(), c.text, false, every_byte(c.text)), expected) << c.text;
    EXPECT_EQ(read(nullptr, c.text, false, every_byte(c.text)), Answer{.content = std::string(c.text)});
  }
}

TEST(ToolCalls, TypesParametersThatAreDeclaredBehindAReference) {
  const Json tools = Json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {
      "$ref": "#/$defs/P", "$defs": {"P": {"type": "object", "properties": {"n": {"type": "integer"},
      "list": {"$ref": "#/$defs/L"}}}, "L": {"type": "array"}}}}}])");
  const Answer answer =
      read(tools,
           "<tool_call>\n<function=f>\n<parameter=n>\n12\n</parameter>\n<parameter=list>\n[1, 2]\n"
           "</parameter>\n</function>\n</tool_call>");
  ASSERT_EQ(answer.calls.size(), 1u);
  EXPECT_EQ(answer.calls[0].arguments, R"({"n": 12, "list": [1, 2]})");
}

TEST(ToolCalls, SendsWhatIsCertain) {
  ToolCallParser parser(tools());
  const auto text_of = [](const std::vector<CallEvent>& events) {
    std::string out;
    for (const CallEvent& event : events) out += event.text;
    return out;
  };
  EXPECT_EQ(text_of(parser.push("Look ")), "Look");
  EXPECT_EQ(text_of(parser.push("here.\n<tool_call>")), " here.");
  EXPECT_EQ(text_of(parser.push("\n<function=write_file>")), "write_file{");
  EXPECT_EQ(text_of(parser.push("<parameter=content>\nlong \"text\"\n")), "\"content\": \"long \\\"text\\\"");
  EXPECT_EQ(text_of(parser.push("goes on </parameter>")), "\\ngoes on ");
  EXPECT_EQ(text_of(parser.push("\n<parameter=mode>\n4")), "\", \"mode\": ");
  EXPECT_EQ(text_of(parser.push("20\n</parameter></function>")), "420}");
  EXPECT_EQ(text_of(parser.push("</tool_call>\n<tool_call>{\"name\": \"run\", \"arguments\"")), "");
  EXPECT_EQ(text_of(parser.push(": {\"cmd\": \"l")), "run{\"cmd\": \"l");
  EXPECT_EQ(text_of(parser.push("s\"")), "s\"");
}

/// Tags, pieces of them, and words that are all different.
std::string hostile_text(std::mt19937& random, int n_pieces, int& n_words) {
  static const std::vector<std::string> kPieces = {"<tool_call><function=run><parameter=cmd>",
                                                   "</parameter></function></tool_call>",
                                                   "<tool_call>{\"name\": \"run\", \"arguments\": {\"",
                                                   "<tool_call>",
                                                   "</tool_call>",
                                                   "<function=ping>",
                                                   "<function=run>",
                                                   "<function=",
                                                   "</function>",
                                                   "<parameter=cmd>",
                                                   "<parameter=args>",
                                                   "<parameter=",
                                                   "<parameter x>",
                                                   "</parameter>",
                                                   "<think>",
                                                   "</think>",
                                                   "{\"name\": \"ping\", \"arguments\": {",
                                                   "{\"name\": \"run\"",
                                                   "{",
                                                   "}",
                                                   "}}",
                                                   "\"",
                                                   "\\",
                                                   ":",
                                                   "\n",
                                                   "\r\n",
                                                   " ",
                                                   "<",
                                                   ">",
                                                   "</",
                                                   "[1]",
                                                   "\xc3\xa4",
                                                   "\xf0\x9f\x98\x80",
                                                   "\x01"};
  std::string text;
  for (int i = 0; i < n_pieces; ++i) {
    text += kPieces[random() % kPieces.size()];
    if (random() % 3 == 0) text += fmt::format("w{}w", n_words++);
  }
  return text + ">";  // a tag that ends in the middle would be dropped
}

TEST(ToolCalls, LosesNoWordAndDoesNotDependOnTheCuts) {
  std::mt19937 random(7);
  int n_calls = 0;
  for (int round = 0; round < 3000; ++round) {
    int n_words = 0;
    const std::string text = hostile_text(random, 1 + round % 40, n_words);
    const bool inside = round % 5 == 0;
    const Answer whole = read(tools(), text, inside);
    ASSERT_EQ(read(tools(), text, inside, every_byte(text)), whole) << text;
    ASSERT_EQ(read(tools(), text, inside, {random() % text.size()}), whole) << text;
    std::string all = whole.reasoning + '\n' + whole.content;
    for (const auto& call : whole.calls) all += '\n' + call.name + '\n' + call.arguments;
    for (int word = 0; word < n_words; ++word)
      ASSERT_NE(all.find(fmt::format("w{}w", word)), std::string::npos) << word << " of " << text << "\n"
                                                                        << whole;
    n_calls += static_cast<int>(whole.calls.size());
  }
  EXPECT_GT(n_calls, 1000);
}

TEST(ToolCalls, GivesBackEveryByteWithoutTools) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    int n_words = 0;
    std::string text = ".";
    text += hostile_text(random, 20, n_words);
    ASSERT_EQ(read(nullptr, text, false, every_byte(text)).content, text);
  }
}

TEST(ToolCalls, TakesTimeInProportionToTheText) {
  // Each holds back as much as it can; byte by byte, reading it anew for each would take longer than a test
  // may.
  constexpr size_t kBytes = 400'000;
  const auto repeated = [](std::string_view part) {
    std::string out;
    while (out.size() < kBytes) out += part;
    return out;
  };
  const std::string value = "<tool_call><function=write_file><parameter=content>";
  const std::string texts[] = {
      std::string(kBytes, ' '),
      std::string(kBytes, '<'),
      repeated("<tool_call>\n"),
      "<tool_call>" + std::string(kBytes, '\n'),
      "<tool_call><function=" + std::string(kBytes, 'n'),
      value + std::string(kBytes, '\n'),
      value + repeated("</parameter>\n") + "x",
      value + repeated("</function> "),
      value + repeated("\n<parameter=x"),
      value + "</tool_call>" + std::string(kBytes, ' '),
      "<tool_call><function=run><parameter=args>" + repeated("[1, "),
      "<tool_call>{\"arguments\": {\"a\": \"" + std::string(kBytes, 'x'),
      "<tool_call>{\"name\": \"run\", \"arguments\": {\"a\": " + repeated("[{"),
      "<tool_call>{\"name\": \"run\"}" + repeated("} "),
      "<think>" + std::string(kBytes, ' '),
      "<think>" + repeated("<tool_call> "),
  };
  for (const std::string& text : texts) (void)read(tools(), text, false, every_byte(text));
}

}  // namespace
}  // namespace packmule::chat
