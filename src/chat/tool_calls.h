// Finds the tool calls in what a model answers, as it streams in.
//
// Models write a call between <tool_call> and </tool_call> in one of two forms, XML (xml_call.h) or JSON
// (json_call.h), whichever their template showed them. What stands behind <tool_call> tells the forms apart,
// so both are read whatever the template says: a model that falls into the other form loses nothing.
//
// A call starts at `<tool_call>`, which may be repeated, white space, and `<function=NAME>` or `{`; or, as
// models forget the tag, at `<function=NAME>` at the start of a line if there is a tool of that name.
// Anything else is text. A start that does not become a call is given back as text with a warning; missing
// and repeated closing tags are seen to.
//
// What is given out is never taken back: the events of a text cut anywhere join to those of the whole.
#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/call_output.h"
#include "chat/resumable.h"
#include "chat/tool_arguments.h"

namespace packmule::chat {

class ToolCallParser {
 public:
  /// `tools` of the request, checked; null: nothing is parsed, all is text.
  explicit ToolCallParser(const Json& tools);

  /// The next bytes of the answer behind its thought, cut anywhere: what has become certain. All text is
  /// valid UTF-8 if the answer is.
  [[nodiscard]] std::vector<CallEvent> push(std::string_view text);
  /// What was held back, and the end of a call that has none. Call once, at the end, whatever ended the
  /// answer.
  [[nodiscard]] std::vector<CallEvent> finish();

 private:
  Task<void> text_only();
  Task<void> answer();
  Task<void> tool_call();
  Task<void> bare_function();
  Task<void> function(size_t name_end);
  Task<void> behind_call(bool in_block, bool is_json);
  void give_text(size_t n_bytes);

  ToolSchemas tools_;
  Input in_;
  CallOutput out_;
  bool line_start_ = true;  // the next byte is the first of a line
  Task<void> parser_;
};

}  // namespace packmule::chat
