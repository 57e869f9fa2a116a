#include "chat/tool_calls.h"

#include <algorithm>
#include <string>

#include "chat/call_tags.h"
#include "chat/json_call.h"
#include "chat/xml_call.h"

namespace packmule::chat {
namespace {

constexpr std::string_view kNoCall = "the start of a tool call that is none: it is given back as text";

size_t size_of(Tag tag) {
  return tag_text(tag).size();
}

/// Behind a call in JSON: the offset behind closing braces too many, if what follows them shows that they
/// are.
Task<size_t> skip_extra_braces(Input& in, size_t offset) {
  size_t at = offset;
  for (bool brace = true; brace;) {
    at = co_await skip_space(in, at);
    brace = co_await in.has(at) && in[at] == '}';
    if (brace) ++at;
  }
  const Tag next = co_await tag_at(in, at);
  const bool ends =
      next == Tag::kEndToolCall || next == Tag::kToolCall || next == Tag::kEnd ||
      (next == Tag::kCut && is_cut_of(in.view(at, in.size()), {Tag::kEndToolCall, Tag::kToolCall}));
  co_return ends ? at : offset;
}

}  // namespace

ToolCallParser::ToolCallParser(const Json& tools)
    : tools_(tools), parser_(tools.is_null() ? text_only() : answer()) {
  in_.start(parser_);
}

std::vector<CallEvent> ToolCallParser::push(std::string_view text) {
  in_.push(text);
  return out_.take();
}

std::vector<CallEvent> ToolCallParser::finish() {
  in_.finish();
  out_.finish();
  return out_.take();
}

Task<void> ToolCallParser::text_only() {
  for (;;) {
    const bool there = co_await in_.has(0);
    if (!there) co_return;
    give_text(in_.size());
  }
}

/// Text, and the calls in it.
Task<void> ToolCallParser::answer() {
  for (;;) {
    const bool there = co_await in_.has(0);
    if (!there) co_return;
    if (const size_t n = std::min(in_.view().find('<'), in_.size()); n > 0) {
      give_text(n);
      continue;
    }
    const Tag tag = co_await tag_at(in_, 0);
    if (tag == Tag::kToolCall)
      co_await tool_call();
    else if (tag == Tag::kFunction && line_start_)
      co_await bare_function();
    else
      give_text(tag == Tag::kCut ? in_.size() : 1);
  }
}

/// At `<tool_call>`.
Task<void> ToolCallParser::tool_call() {
  const BlockStart start = co_await block_start(in_, 0);
  if (start.next == Tag::kFunction) {
    const TagName name = co_await tag_name(in_, start.body + size_of(Tag::kFunction));
    if (name.complete) {
      in_.drop(start.body);
      co_await function(name.end - start.body);
      co_await behind_call(true, false);
      co_return;
    }
    out_.warn(kNoCall);
    give_text(name.end);
  } else if (start.is_json) {
    const JsonCall call = co_await json_call(in_, out_, start.body);
    if (call.is_call) {
      co_await behind_call(true, true);
      co_return;
    }
    out_.warn(kNoCall);
    give_text(call.end);
  } else {
    give_text(start.body);  // the word, not a call
  }
}

/// At `<function=` outside of a block: a call if there is a tool of that name.
Task<void> ToolCallParser::bare_function() {
  const size_t begin = size_of(Tag::kFunction);
  const TagName name = co_await tag_name(in_, begin);
  if (name.complete && tools_.find(in_.view(begin, name.end)) != nullptr) {
    co_await function(name.end);
    co_await behind_call(false, false);
  } else {
    give_text(name.end);
  }
}

/// At `<function=NAME>`; `name_end` is the offset of its `>`.
Task<void> ToolCallParser::function(size_t name_end) {
  const std::string name(in_.view(size_of(Tag::kFunction), name_end));
  in_.drop(name_end + 1);
  co_await xml_call(in_, out_, tools_, name);
}

/// Behind a call: further calls of the same block, and closing tags too many. `in_block`: its `<tool_call>`
/// is open.
Task<void> ToolCallParser::behind_call(bool in_block, bool is_json) {
  line_start_ = true;  // right behind a call is as good
  for (;;) {
    size_t at = co_await skip_space(in_, 0);
    if (in_block && is_json) at = co_await skip_extra_braces(in_, at);
    const Tag tag = co_await tag_at(in_, at);
    in_.drop(at);
    if (tag == Tag::kEndParameter || tag == Tag::kEndFunction || tag == Tag::kEndToolCall) {
      in_.drop(size_of(tag));
      if (tag == Tag::kEndToolCall) in_block = false;
      continue;
    }
    if (tag == Tag::kCut && (in_block || in_.size() > 1) &&
        is_cut_of(in_.view(), {Tag::kEndParameter, Tag::kEndFunction, Tag::kEndToolCall})) {
      in_.drop(in_.size());
      co_return;
    }
    if (in_block && tag == Tag::kFunction) {
      const TagName name = co_await tag_name(in_, size_of(tag));
      if (name.complete) {
        co_await function(name.end);
        is_json = false;
        continue;
      }
    } else if (in_block && tag == Tag::kNone && in_[0] == '{') {
      const JsonCall call = co_await json_call(in_, out_, 0);
      if (call.is_call) {
        is_json = true;
        continue;
      }
      out_.warn(kNoCall);
      give_text(call.end);
    }
    co_return;
  }
}

void ToolCallParser::give_text(size_t n_bytes) {
  if (n_bytes == 0) return;
  out_.text(in_.view(0, n_bytes));
  line_start_ = in_[n_bytes - 1] == '\n';
  in_.drop(n_bytes);
}

}  // namespace packmule::chat
