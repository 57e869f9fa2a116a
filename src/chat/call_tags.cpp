#include "chat/call_tags.h"

#include <algorithm>
#include <array>

namespace packmule::chat {
namespace {

// In the order of the enumerators from kToolCall on.
constexpr std::array<std::string_view, 6> kTexts = {
    "<tool_call>", "<function=", "<parameter=", "</parameter>", "</function>", "</tool_call>"};

}  // namespace

std::string_view tag_text(Tag tag) {
  return tag < Tag::kToolCall ? "" : kTexts[static_cast<size_t>(tag) - static_cast<size_t>(Tag::kToolCall)];
}

Task<Tag> tag_at(Input& in, size_t offset) {
  std::array<bool, kTexts.size()> possible;
  possible.fill(true);
  for (size_t n = 0;; ++n) {
    const bool there = co_await in.has(offset + n);
    if (!there) co_return n == 0 ? Tag::kEnd : Tag::kCut;
    bool any = false;
    for (size_t i = 0; i < kTexts.size(); ++i) {
      possible[i] = possible[i] && kTexts[i][n] == in[offset + n];
      if (possible[i] && kTexts[i].size() == n + 1)
        co_return static_cast<Tag>(static_cast<size_t>(Tag::kToolCall) + i);
      any = any || possible[i];
    }
    if (!any) co_return Tag::kNone;
  }
}

bool is_cut_of(std::string_view rest, std::initializer_list<Tag> tags) {
  return std::any_of(tags.begin(), tags.end(), [&](Tag tag) { return tag_text(tag).starts_with(rest); });
}

Task<size_t> skip_space(Input& in, size_t offset) {
  for (;; ++offset) {
    const bool there = co_await in.has(offset);
    if (!there || !is_space(in[offset])) co_return offset;
  }
}

Task<TagName> tag_name(Input& in, size_t offset) {
  for (size_t i = offset;; ++i) {
    const bool there = co_await in.has(i);
    if (there && in[i] == '>' && i > offset) co_return TagName{.complete = true, .end = i};
    if (!there || in[i] == '>' || in[i] == '<' || in[i] == '\n')
      co_return TagName{.complete = false, .end = i};
  }
}

Task<BlockStart> block_start(Input& in, size_t offset) {
  BlockStart start{.body = offset, .next = Tag::kToolCall, .is_json = false};
  while (start.next == Tag::kToolCall) {
    start.body = co_await skip_space(in, start.body + tag_text(Tag::kToolCall).size());
    start.next = co_await tag_at(in, start.body);
  }
  start.is_json = start.next == Tag::kNone && in[start.body] == '{';
  co_return start;
}

}  // namespace packmule::chat
