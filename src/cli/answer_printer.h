// Writes an answer to stdout as it comes.
#pragma once

#include <string_view>

#include "chat/reasoning.h"

namespace packmule::cli {

/// On a terminal thoughts are dimmed and set apart from the answer, and control characters are replaced;
/// elsewhere the text goes out byte for byte.
class AnswerPrinter {
 public:
  AnswerPrinter(bool on_terminal, bool opens_reasoning)
      : on_terminal_(on_terminal), splitter_(opens_reasoning) {}

  void print(std::string_view text);
  /// Prints what was held back and ends the line.
  void finish();

 private:
  void print_delta(const chat::ReasoningSplitter::Delta& delta);

  bool on_terminal_;
  bool thought_ = false;  // some of a thought was printed
  bool answered_ = false;
  bool ends_line_ = false;
  chat::ReasoningSplitter splitter_;
};

}  // namespace packmule::cli
