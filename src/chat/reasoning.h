// Splits the text of a thinking model into what it thought and what it answers, as it streams in.
//
// A Thinking template ends the prompt with an opened `<think>`, so the model's text begins inside it and only
// the end tag appears; other models may open `<think>` themselves at the very start of the answer, or once
// more. Anywhere else the tags are ordinary text. White space around the thought and before the answer is not
// part of either; a text without a thought comes out unchanged, byte for byte.
#pragma once

#include <string>
#include <string_view>

#include "chat/resumable.h"

namespace packmule::chat {

class ReasoningSplitter {
 public:
  /// `inside`: the prompt already opened the thought (see opens_reasoning). `calls_end_it`: the start of a
  /// tool call ends a thought like its end tag does, as models forget the tag there; the call is the
  /// beginning of the answer.
  explicit ReasoningSplitter(bool inside, bool calls_end_it = false);

  /// What became certain; either may be "".
  struct Delta {
    std::string reasoning;
    std::string content;
  };
  /// The next bytes of the text, cut anywhere.
  [[nodiscard]] Delta push(std::string_view text);
  /// What was held back because more text could have made a tag of it. Call once, at the end.
  [[nodiscard]] Delta finish();

 private:
  Task<void> split(bool inside, bool calls_end_it);
  Task<void> thought(bool calls_end_it);
  void give_thought(size_t n_bytes);

  Input in_;
  Delta out_;
  std::string space_;  // behind the thought so far: part of it if it goes on
  Task<void> parser_;
};

/// True when a rendered prompt leaves a thought open: it ends with "<think>" and white space.
[[nodiscard]] bool opens_reasoning(std::string_view prompt);

}  // namespace packmule::chat
