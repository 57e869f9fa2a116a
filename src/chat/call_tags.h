// The tags of tool calls, found in a text that is still arriving.
#pragma once

#include <initializer_list>
#include <string_view>

#include "chat/resumable.h"

namespace packmule::chat {

enum class Tag {
  kNone,          // none of the tags
  kCut,           // the text ends inside what could become one
  kEnd,           // the text ends before it
  kToolCall,      // <tool_call>
  kFunction,      // <function=
  kParameter,     // <parameter=
  kEndParameter,  // </parameter>
  kEndFunction,   // </function>
  kEndToolCall,   // </tool_call>
};

[[nodiscard]] std::string_view tag_text(Tag tag);

/// The tag that begins at this offset.
Task<Tag> tag_at(Input& in, size_t offset);

/// Whether `rest`, the end of a text, is the beginning of one of these tags.
[[nodiscard]] bool is_cut_of(std::string_view rest, std::initializer_list<Tag> tags);

[[nodiscard]] constexpr bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
/// Offset of the first byte from `offset` on that is not white space, or of the end.
Task<size_t> skip_space(Input& in, size_t offset);

/// What stands between `<function=` or `<parameter=` and the next `>`.
struct TagName {
  bool complete = false;
  size_t end = 0;  // complete: the offset of the `>`; else where it went wrong or the text ended
};
/// The name that begins at this offset. It is not empty, and neither holds `<` nor goes over a line's end.
Task<TagName> tag_name(Input& in, size_t offset);

/// The start of a call's block: `<tool_call>`, which may be repeated, and white space.
struct BlockStart {
  size_t body = 0;        // offset of what follows
  Tag next = Tag::kNone;  // the tag there
  bool is_json = false;   // no tag, but `{`
  [[nodiscard]] bool opens_call() const { return next == Tag::kFunction || is_json; }
};
/// `offset` is that of a `<tool_call>`.
Task<BlockStart> block_start(Input& in, size_t offset);

}  // namespace packmule::chat
