#include "chat/call_output.h"

#include <algorithm>
#include <utility>

namespace packmule::chat {

void CallOutput::text(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  if (after_gap_) text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  const size_t size = text.find_last_not_of(kSpace) + 1;
  if (size == 0) {
    space_ += text;
    return;
  }
  if (after_gap_ && any_text_) add(CallEvent::Kind::kText, "\n");
  add(CallEvent::Kind::kText, space_);
  add(CallEvent::Kind::kText, text.substr(0, size));
  space_ = text.substr(size);
  any_text_ = true;
  after_gap_ = false;
}

void CallOutput::begin(std::string_view name) {
  gap();
  any_call_ = true;
  events_.push_back({.kind = CallEvent::Kind::kBegin, .text = std::string(name)});
}

void CallOutput::arguments(std::string_view json) {
  add(CallEvent::Kind::kArguments, json);
}

void CallOutput::end(bool incomplete) {
  gap();
  events_.push_back({.kind = CallEvent::Kind::kEnd, .incomplete = incomplete});
}

void CallOutput::gap() {
  space_.clear();
  after_gap_ = true;
}

void CallOutput::warn(std::string_view what) {
  events_.push_back({.kind = CallEvent::Kind::kWarning, .text = std::string(what)});
}

void CallOutput::finish() {
  if (!any_call_) add(CallEvent::Kind::kText, space_);
  space_.clear();
}

std::vector<CallEvent> CallOutput::take() {
  return std::exchange(events_, {});
}

void CallOutput::add(CallEvent::Kind kind, std::string_view text) {
  if (text.empty()) return;
  if (!events_.empty() && events_.back().kind == kind)
    events_.back().text += text;
  else
    events_.push_back({.kind = kind, .text = std::string(text)});
}

}  // namespace packmule::chat
