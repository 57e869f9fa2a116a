#include "chat/resumable.h"

#include <algorithm>

namespace packmule::chat {
namespace {

/// Bytes at the end of `text` that begin a character and do not complete it. Bytes that no character has
/// there are not waited for.
size_t unfinished_character(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(3, text.size()); ++n) {
    const auto byte = static_cast<unsigned char>(text[text.size() - n]);
    if ((byte & 0xC0) == 0x80) continue;  // one that goes on
    const size_t size = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return size > n ? n : 0;
  }
  return 0;
}

}  // namespace

void Input::push(std::string_view bytes) {
  text_ += bytes;
  n_whole_ = text_.size() - unfinished_character(text_);
  n_whole_ = std::max(n_whole_, begin_);
  run();
}

void Input::finish() {
  n_whole_ = text_.size();
  ended_ = true;
  run();
}

void Input::drop(size_t n_bytes) {
  begin_ += n_bytes;
  // Moves what is left only when that is less than what is thrown away, so the moves add up to the text's
  // size.
  if (begin_ < text_.size() - begin_) return;
  text_.erase(0, begin_);
  n_whole_ -= begin_;
  begin_ = 0;
}

void Input::run() {
  if (waits_ && waits_for_ >= size() && !ended_) return;
  waits_ = false;
  while (!stack_.empty() && !waits_) {
    const std::coroutine_handle<> innermost = stack_.back();
    innermost.resume();
  }
}

}  // namespace packmule::chat
