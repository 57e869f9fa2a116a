// Splits the text of a thinking model into what it thought and what it answers, as it streams in.
//
// A Thinking template ends the prompt with an opened `<think>`, so the model's text begins inside it and only
// the end tag appears; other models may open `<think>` themselves at the very start of the answer. Anywhere
// else the tags are ordinary text. White space around the thought and before the answer is not part of
// either; a text without a thought comes out unchanged, byte for byte.
#pragma once

#include <string>
#include <string_view>

namespace packmule::chat {

class ReasoningSplitter {
 public:
  /// `inside`: the prompt already opened the thought (see opens_reasoning).
  explicit ReasoningSplitter(bool inside) : state_(inside ? State::kThinkingStart : State::kStart) {}

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
  enum class State {
    kStart,          // nothing certain yet: white space, or a beginning of "<think>"
    kThinkingStart,  // in the thought, only white space so far
    kThinking,
    kAnswerStart,  // behind the end tag, only white space so far
    kAnswer,
  };
  State state_;
  std::string pending_;
};

/// True when a rendered prompt leaves a thought open: it ends with "<think>" and white space.
[[nodiscard]] bool opens_reasoning(std::string_view prompt);

}  // namespace packmule::chat
