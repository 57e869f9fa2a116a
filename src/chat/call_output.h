// What a parser of tool calls has found, in order, with the white space around calls taken out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace packmule::chat {

struct CallEvent {
  enum class Kind {
    kText,       // a part of the answer that is no call
    kBegin,      // a call: `text` is the name of the function
    kArguments,  // the next part of the JSON text of its arguments
    kEnd,        // the call is complete, or `incomplete`: the answer ended inside it
    kWarning,  // something was not as it should be: `text` says what in one line, without words of the model
  };
  Kind kind = Kind::kText;
  std::string text;
  bool incomplete = false;
};

/// Text without a call beside it goes through byte for byte. White space next to a call is dropped, as is
/// that at the end of an answer with calls; pieces of text that calls separate are joined by one newline.
class CallOutput {
 public:
  void text(std::string_view text);
  void begin(std::string_view name);
  void arguments(std::string_view json);
  void end(bool incomplete);
  /// Something stood here that is no text: what is before and behind it are two pieces.
  void gap();
  void warn(std::string_view what);
  /// The answer has ended.
  void finish();

  /// The events since the last time. Neighbours of the same kind are one.
  [[nodiscard]] std::vector<CallEvent> take();

 private:
  void add(CallEvent::Kind kind, std::string_view text);

  std::vector<CallEvent> events_;
  std::string space_;  // behind the last text, which a call or the end may turn out to follow
  bool any_call_ = false;
  bool any_text_ = false;   // some was given out
  bool after_gap_ = false;  // no text since the last call or other gap
};

}  // namespace packmule::chat
