#include "chat/reasoning.h"

#include <algorithm>

namespace packmule::chat {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kSpace = " \t\r\n";

/// Length of the longest end of `text` that is a beginning of `tag`, shorter than the whole tag.
size_t partial_tag(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n)
    if (text.substr(text.size() - n) == tag.substr(0, n)) return n;
  return 0;
}

/// Length of `text` without white space at its end.
size_t trimmed_size(std::string_view text) {
  return text.find_last_not_of(kSpace) + 1;
}

}  // namespace

ReasoningSplitter::Delta ReasoningSplitter::push(std::string_view text) {
  pending_ += text;
  Delta out;
  if (state_ == State::kStart) {
    const size_t begin = std::min(pending_.find_first_not_of(kSpace), pending_.size());
    const std::string_view rest = std::string_view(pending_).substr(begin);
    if (rest.size() < kOpen.size() && kOpen.starts_with(rest)) return out;
    if (rest.starts_with(kOpen)) {
      pending_.erase(0, begin + kOpen.size());
      state_ = State::kThinkingStart;
    } else {
      state_ = State::kAnswer;
    }
  }
  if (state_ == State::kThinkingStart) {
    pending_.erase(0, std::min(pending_.find_first_not_of(kSpace), pending_.size()));
    if (pending_.empty()) return out;
    state_ = State::kThinking;
  }
  if (state_ == State::kThinking) {
    if (const size_t end = pending_.find(kClose); end != std::string::npos) {
      out.reasoning = pending_.substr(0, trimmed_size(std::string_view(pending_).substr(0, end)));
      pending_.erase(0, end + kClose.size());
      state_ = State::kAnswerStart;
    } else {
      // Held back: a beginning of the tag, and the white space before it, which the tag would make an edge.
      const std::string_view all = pending_;
      const size_t certain = trimmed_size(all.substr(0, all.size() - partial_tag(all, kClose)));
      out.reasoning = pending_.substr(0, certain);
      pending_.erase(0, certain);
      return out;
    }
  }
  if (state_ == State::kAnswerStart) {
    pending_.erase(0, std::min(pending_.find_first_not_of(kSpace), pending_.size()));
    if (pending_.empty()) return out;
    state_ = State::kAnswer;
  }
  out.content = std::move(pending_);
  pending_.clear();
  return out;
}

ReasoningSplitter::Delta ReasoningSplitter::finish() {
  Delta out;
  if (state_ == State::kThinking)
    out.reasoning = pending_.substr(0, trimmed_size(pending_));
  else
    out.content = std::move(pending_);
  pending_.clear();
  state_ = State::kAnswer;
  return out;
}

bool opens_reasoning(std::string_view prompt) {
  return prompt.substr(0, trimmed_size(prompt)).ends_with(kOpen);
}

}  // namespace packmule::chat
