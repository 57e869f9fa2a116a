#include "chat/reasoning.h"

#include <algorithm>
#include <utility>

#include "chat/call_tags.h"

namespace packmule::chat {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";

/// Length of `text` without white space at its end.
size_t trimmed_size(std::string_view text) {
  return text.find_last_not_of(" \t\r\n") + 1;
}

Task<bool> stands_at(Input& in, size_t offset, std::string_view tag) {
  for (size_t i = 0; i < tag.size(); ++i) {
    const bool there = co_await in.has(offset + i);
    if (!there || in[offset + i] != tag[i]) co_return false;
  }
  co_return true;
}

}  // namespace

ReasoningSplitter::ReasoningSplitter(bool inside, bool calls_end_it) : parser_(split(inside, calls_end_it)) {
  in_.start(parser_);
}

ReasoningSplitter::Delta ReasoningSplitter::push(std::string_view text) {
  in_.push(text);
  return std::exchange(out_, {});
}

ReasoningSplitter::Delta ReasoningSplitter::finish() {
  in_.finish();
  return std::exchange(out_, {});
}

Task<void> ReasoningSplitter::split(bool inside, bool calls_end_it) {
  if (!inside) {
    const size_t at = co_await skip_space(in_, 0);
    inside = co_await stands_at(in_, at, kOpen);
    if (inside) in_.drop(at);
  }
  if (inside) co_await thought(calls_end_it);
  for (;;) {
    const bool there = co_await in_.has(0);
    if (!there) co_return;
    out_.content += in_.view();
    in_.drop(in_.size());
  }
}

/// The thought, with what opens and ends it and the white space behind.
Task<void> ReasoningSplitter::thought(bool calls_end_it) {
  for (bool opened = true; opened;) {
    const size_t at = co_await skip_space(in_, 0);
    in_.drop(at);
    opened = co_await stands_at(in_, 0, kOpen);
    if (opened) in_.drop(kOpen.size());
  }
  for (bool ended = false; !ended;) {
    const bool there = co_await in_.has(0);
    if (!there) co_return;
    if (const size_t n = std::min(in_.view().find('<'), in_.size()); n > 0) {
      give_thought(n);
      continue;
    }
    ended = co_await stands_at(in_, 0, kClose);
    if (ended) {
      in_.drop(kClose.size());
      continue;
    }
    size_t n_text = 1;
    const Tag tag = calls_end_it ? co_await tag_at(in_, 0) : Tag::kNone;
    if (tag == Tag::kToolCall) {
      const BlockStart start = co_await block_start(in_, 0);
      ended = start.opens_call();
      n_text = start.body;
    }
    if (!ended) give_thought(n_text);
  }
  const size_t at = co_await skip_space(in_, 0);
  in_.drop(at);
}

void ReasoningSplitter::give_thought(size_t n_bytes) {
  const std::string_view text = in_.view(0, n_bytes);
  const size_t size = trimmed_size(text);
  if (size > 0) {
    out_.reasoning += std::exchange(space_, {});
    out_.reasoning += text.substr(0, size);
  }
  space_ += text.substr(size);
  in_.drop(n_bytes);
}

bool opens_reasoning(std::string_view prompt) {
  return prompt.substr(0, trimmed_size(prompt)).ends_with(kOpen);
}

}  // namespace packmule::chat
