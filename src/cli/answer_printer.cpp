#include "cli/answer_printer.h"

#include <cstdio>
#include <string>

#include "cli/terminal.h"

namespace packmule::cli {
namespace {

void put(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kPlain = "\x1b[0m";

}  // namespace

void AnswerPrinter::print(std::string_view text) {
  if (text.empty()) return;
  if (on_terminal_) {
    print_delta(splitter_.push(text));
  } else {
    put(text);
    ends_line_ = text.ends_with('\n');
  }
  std::fflush(stdout);
}

void AnswerPrinter::finish() {
  if (on_terminal_) print_delta(splitter_.finish());
  if (!ends_line_) put("\n");
  std::fflush(stdout);
}

void AnswerPrinter::print_delta(const chat::ReasoningSplitter::Delta& delta) {
  if (!delta.reasoning.empty()) {
    put(kDim);
    put(without_controls(delta.reasoning));
    put(kPlain);
    thought_ = true;
    ends_line_ = false;
  }
  if (!delta.content.empty()) {
    if (thought_ && !answered_) put("\n\n");
    put(without_controls(delta.content));
    answered_ = true;
    ends_line_ = delta.content.ends_with('\n');
  }
}

}  // namespace packmule::cli
