// Any bytes as the answer of a model with tools: what is found in them does not depend on how they are cut,
// is in order, and every call ends. The first byte says whether a thought is open.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "chat/reasoning.h"
#include "chat/tool_calls.h"

namespace {

using namespace packmule;
using Kind = chat::CallEvent::Kind;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tool_calls_fuzzer: %s\n", what);
  std::abort();
}

const Json& tools() {
  static const Json list =
      Json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {"properties": {
      "a": {"type": "string"},
      "b": {"type": ["integer", "object"]},
      "c": {"anyOf": [{"type": "null"}, {"type": "array"}]}}}}}])");
  return list;
}

/// Everything that was found, as one text that tells the kinds apart; joined where pieces may be cut.
class Found {
 public:
  void reasoning(const std::string& text) { reasoning_ += text; }
  void events(const std::vector<chat::CallEvent>& events) {
    for (const chat::CallEvent& event : events) {
      if (event.kind == Kind::kBegin || event.kind == Kind::kEnd) {
        require(open_ == (event.kind == Kind::kEnd), "calls overlap");
        open_ = !open_;
        calls_ += event.kind == Kind::kBegin ? "\nbegin " + event.text + " "
                  : event.incomplete         ? " cut"
                                             : " end";
      } else if (event.kind == Kind::kArguments) {
        require(open_, "arguments without a call");
        calls_ += event.text;
      } else if (event.kind == Kind::kText) {
        content_ += event.text;
      } else {
        ++n_warnings_;
      }
    }
  }
  bool operator==(const Found&) const = default;
  [[nodiscard]] bool open() const { return open_; }

 private:
  std::string reasoning_, content_, calls_;
  int n_warnings_ = 0;
  bool open_ = false;
};

Found read(const Json& offered, std::string_view text, bool inside, size_t step) {
  chat::ReasoningSplitter splitter(inside, true);
  chat::ToolCallParser parser(offered);
  Found found;
  const auto take = [&](const chat::ReasoningSplitter::Delta& delta) {
    found.reasoning(delta.reasoning);
    found.events(parser.push(delta.content));
  };
  for (size_t i = 0; i < text.size(); i += step) take(splitter.push(text.substr(i, step)));
  take(splitter.finish());
  found.events(parser.finish());
  require(!found.open(), "a call does not end");
  return found;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool inside = data[0] % 2 == 1;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Found whole = read(tools(), text, inside, text.size() + 1);
  require(read(tools(), text, inside, 1) == whole, "bytes one by one give something else");
  require(read(tools(), text, inside, 7) == whole, "pieces of seven bytes give something else");

  chat::ToolCallParser without(nullptr);
  std::string content;
  for (const auto& event : without.push(text)) content += event.text;
  for (const auto& event : without.finish()) content += event.text;
  require(content == text, "without tools the text is not given back");
  return 0;
}
