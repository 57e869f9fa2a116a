#include "chat/xml_call.h"

#include <algorithm>
#include <set>
#include <vector>

#include "chat/call_tags.h"
#include "chat/xml_value.h"

namespace packmule::chat {
namespace {

/// What is known of the call while its parameters are read.
struct Call {
  const ToolSchemas::Parameters* declared;  // nullptr for an unknown tool
  std::set<std::string, std::less<>> given;

  [[nodiscard]] const ValueTypes& types(std::string_view key) const {
    static const ValueTypes kUndeclared;
    if (declared == nullptr) return kUndeclared;
    const auto found = declared->find(key);
    return found == declared->end() ? kUndeclared : found->second;
  }
  [[nodiscard]] bool misses(std::string_view key) const {
    return declared != nullptr && declared->contains(key) && !given.contains(key);
  }
};

size_t size_of(Tag tag) {
  return tag_text(tag).size();
}

/// Bytes before the next `<` of what has arrived, at most all of it.
size_t plain_size(const Input& in) {
  return std::min(in.view().find('<'), in.size());
}

void take(Input& in, XmlValue& value, size_t n_bytes) {
  value.text(in.view(0, n_bytes));
  in.drop(n_bytes);
}

/// At one or more `</parameter>`. True when they close the value: it is closed then, and they are consumed.
/// Else they are part of it.
Task<bool> end_of_parameter(Input& in, XmlValue& value) {
  std::vector<size_t> ends;  // offset behind each tag of the row
  size_t next = 0;
  Tag tag = Tag::kEndParameter;
  while (tag == Tag::kEndParameter) {
    ends.push_back(next + size_of(tag));
    next = co_await skip_space(in, ends.back());
    tag = co_await tag_at(in, next);
  }
  const bool closes =
      tag == Tag::kParameter || tag == Tag::kEndFunction || tag == Tag::kEndToolCall || tag == Tag::kEnd ||
      (tag == Tag::kCut && is_cut_of(in.view(next, in.size()), {Tag::kParameter, Tag::kEndFunction,
                                                                Tag::kEndToolCall, Tag::kEndParameter}));
  if (!closes) {
    take(in, value, next);
    value.closed_inside(ends.size());
    co_return false;
  }
  const size_t n_own = std::min(value.n_open(), ends.size() - 1);
  value.text(in.view(0, ends[n_own] - size_of(Tag::kEndParameter)));
  value.close(true);
  in.drop(ends.back());
  co_return true;
}

/// At another tag that may stand where `</parameter>` was forgotten. True when it does: the value is closed
/// then, and the tag is left. Else the tag is part of the value.
Task<bool> forgotten_end(Input& in, XmlValue& value, const Call& call, Tag tag) {
  bool closes = false;
  size_t next = size_of(tag);
  if (tag == Tag::kParameter && value.at_line_start()) {
    const TagName key = co_await tag_name(in, next);
    closes = key.complete && call.misses(in.view(next, key.end));
    next = key.end;
  } else if (tag == Tag::kEndFunction || tag == Tag::kEndToolCall) {
    const Tag outer = tag == Tag::kEndFunction ? Tag::kEndToolCall : Tag::kToolCall;
    next = co_await skip_space(in, next);
    const Tag after = co_await tag_at(in, next);
    closes = after == outer || after == Tag::kEnd ||
             (after == Tag::kCut && is_cut_of(in.view(next, in.size()), {outer}));
  }
  if (closes)
    value.close(true);
  else
    take(in, value, next);
  co_return closes;
}

/// From behind `<parameter=KEY>` through the end of the value.
Task<void> parameter(Input& in, CallOutput& out, const Call& call, std::string key) {
  XmlValue value(out, call.types(key));
  for (;;) {
    const bool there = co_await in.has(0);
    if (!there) {
      value.close(false);
      co_return;
    }
    if (const size_t n = plain_size(in); n > 0) {
      take(in, value, n);
      continue;
    }
    const Tag tag = co_await tag_at(in, 0);
    bool closed = false;
    if (tag == Tag::kEndParameter) {
      closed = co_await end_of_parameter(in, value);
    } else if (tag == Tag::kCut) {
      // A closing tag that has begun at the very end is no text.
      closed = is_cut_of(in.view(), {Tag::kEndParameter, Tag::kEndFunction, Tag::kEndToolCall});
      if (closed) {
        value.close(true);
        in.drop(in.size());
      } else {
        take(in, value, in.size());
      }
    } else if (tag == Tag::kNone) {
      take(in, value, 1);
    } else {
      closed = co_await forgotten_end(in, value, call, tag);
    }
    if (closed) co_return;
  }
}

/// What stands where a parameter may begin.
enum class Next { kParameter, kText, kEnd, kCut };

/// Reads the next parameter, or what stands in its place.
Task<Next> next_parameter(Input& in, CallOutput& out, Call& call) {
  const size_t at = co_await skip_space(in, 0);
  const Tag tag = co_await tag_at(in, at);
  const size_t behind = at + size_of(tag);
  if (tag == Tag::kParameter) {
    const TagName name = co_await tag_name(in, behind);
    if (name.complete) {
      const std::string key(in.view(behind, name.end));
      in.drop(name.end + 1);
      out.gap();
      out.arguments((call.given.empty() ? "\"" : ", \"") + json_escaped(key) + "\": ");
      call.given.insert(key);
      co_await parameter(in, out, call, key);
      co_return Next::kParameter;
    }
    const bool there = co_await in.has(name.end);
    if (!there) co_return Next::kCut;
  } else if (tag == Tag::kEndParameter) {  // one too many
    in.drop(behind);
    out.gap();
    co_return Next::kParameter;
  } else if (tag == Tag::kEndFunction) {
    in.drop(behind);
    co_return Next::kEnd;
  } else if (tag == Tag::kEndToolCall || tag == Tag::kToolCall || tag == Tag::kFunction) {
    co_return Next::kEnd;
  } else if (tag == Tag::kEnd || tag == Tag::kCut) {
    co_return Next::kCut;
  }
  // Words, or a parameter without a name. White space behind them may be next to a tag: it is left.
  const std::string_view line = in.view(0, std::min(in.view().find('<', at + 1), in.size()));
  const size_t size = line.find_last_not_of(" \t\r\n") + 1;
  out.text(line.substr(0, size));
  in.drop(size);
  co_return Next::kText;
}

}  // namespace

Task<void> xml_call(Input& in, CallOutput& out, const ToolSchemas& tools, std::string name) {
  Call call{.declared = tools.find(name), .given = {}};
  out.begin(name);
  out.arguments("{");
  bool odd = false;
  Next next = Next::kParameter;
  while (next == Next::kParameter || next == Next::kText) {
    next = co_await next_parameter(in, out, call);
    if (next == Next::kText && !odd) out.warn("text between the parameters of a tool call");
    odd = odd || next == Next::kText;
  }
  if (next == Next::kCut) in.drop(in.size());
  out.arguments("}");
  out.end(next == Next::kCut);
}

}  // namespace packmule::chat
