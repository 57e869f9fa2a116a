#include "chat/json_call.h"

#include <optional>
#include <string>

#include "base/json.h"
#include "chat/call_tags.h"

namespace packmule::chat {
namespace {

/// Finds the end of an object or array by its brackets, of its own kind only; those in strings do not count.
class Brackets {
 public:
  explicit Brackets(char open) : open_(open), close_(open == '{' ? '}' : ']') {}

  /// True at the bracket that closes the first.
  bool closed_by(char c) {
    if (escaped_) {
      escaped_ = false;
    } else if (in_string_) {
      escaped_ = c == '\\';
      in_string_ = c != '"';
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == open_) {
      ++depth_;
    } else if (c == close_) {
      return --depth_ == 0;
    }
    return false;
  }

 private:
  char open_;
  char close_;
  int64_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

/// A value that is looked for and its end; `complete` false: it is not one, or the text ended in it.
struct Span {
  bool complete = false;
  size_t end = 0;  // offset behind it, or where it went wrong
};

Task<Span> string_end(Input& in, size_t offset) {
  bool escaped = false;
  for (size_t i = offset + 1;; ++i) {
    const bool there = co_await in.has(i);
    if (!there || static_cast<unsigned char>(in[i]) < 0x20) co_return Span{.complete = false, .end = i};
    if (in[i] == '"' && !escaped) co_return Span{.complete = true, .end = i + 1};
    escaped = in[i] == '\\' && !escaped;
  }
}

Task<Span> value_end(Input& in, size_t offset) {
  const bool there = co_await in.has(offset);
  if (!there) co_return Span{.complete = false, .end = offset};
  if (in[offset] == '"') {
    const Span span = co_await string_end(in, offset);
    co_return span;
  }
  if (in[offset] == '{' || in[offset] == '[') {
    Brackets brackets(in[offset]);
    for (size_t i = offset;; ++i) {
      const bool more = co_await in.has(i);
      if (!more) co_return Span{.complete = false, .end = i};
      if (brackets.closed_by(in[i])) co_return Span{.complete = true, .end = i + 1};
    }
  }
  for (size_t i = offset;; ++i) {  // a number, true, false, null
    const bool more = co_await in.has(i);
    const bool goes_on = more && std::string_view(",}] \t\r\n<").find(in[i]) == std::string_view::npos;
    if (!goes_on) co_return Span{.complete = more && i > offset, .end = i};
  }
}

/// The text that a JSON string stands for.
std::optional<std::string> string_value(std::string_view json) {
  const Json value = Json::parse(json, nullptr, false);
  if (!value.is_string()) return std::nullopt;
  return value.get<std::string>();
}

/// The arguments as JSON text, if this value can be some.
std::optional<std::string> arguments_text(std::string_view json) {
  if (json == "null") return "{}";
  std::string text(json);
  if (json.starts_with('"')) {
    const auto held = string_value(json);
    if (!held) return std::nullopt;
    const size_t begin = held->find_first_not_of(" \t\r\n");
    if (begin == std::string::npos) return "{}";
    text = held->substr(begin);
  }
  if (!text.starts_with('{') || !Json::accept(text)) return std::nullopt;
  return text;
}

/// The arguments object at the front, sent while it arrives; false when the text ends in it.
Task<bool> send_object(Input& in, CallOutput& out) {
  Brackets braces('{');
  std::string whole;
  for (;;) {
    const bool there = co_await in.has(0);
    if (!there) co_return false;
    size_t n = 0;
    bool closed = false;
    while (n < in.size() && !closed) closed = braces.closed_by(in[n++]);
    out.arguments(in.view(0, n));
    whole += in.view(0, n);
    in.drop(n);
    if (!closed) continue;
    if (!Json::accept(whole)) out.warn("the arguments of a tool call are not valid JSON");
    co_return true;
  }
}

/// Behind arguments that were sent: the other keys of the object, which say nothing more, through its `}`. A
/// call whose object does not go on as one ends there. False when the text ends before that.
Task<bool> skip_rest(Input& in, CallOutput& out) {
  for (;;) {
    size_t at = co_await skip_space(in, 0);
    const bool there = co_await in.has(at);
    if (!there) co_return false;
    if (in[at] == '}') {
      in.drop(at + 1);
      co_return true;
    }
    if (in[at] == ',') {
      at = co_await skip_space(in, at + 1);
      const Span key = co_await value_end(in, at);
      at = co_await skip_space(in, key.end);
      const bool colon = co_await in.has(at) && in[at] == ':';
      if (key.complete && colon) {
        at = co_await skip_space(in, at + 1);
        const Span value = co_await value_end(in, at);
        if (value.complete) {
          in.drop(value.end);
          continue;
        }
        at = value.end;
      }
      const bool more = co_await in.has(at);
      if (!more) co_return false;
    }
    out.warn("the object of a tool call does not end");
    co_return true;
  }
}

/// Arguments whose call is known by name, from their `{` on.
Task<void> send_call(Input& in, CallOutput& out, std::string name) {
  out.begin(name);
  const bool complete = co_await send_object(in, out);
  const bool ended = complete && co_await skip_rest(in, out);
  if (!ended) in.drop(in.size());
  out.end(!ended);
}

}  // namespace

Task<JsonCall> json_call(Input& in, CallOutput& out, size_t offset) {
  std::optional<std::string> name;
  std::optional<std::string> arguments;
  size_t at = co_await skip_space(in, offset + 1);
  for (bool closed = false; !closed;) {
    const bool quote = co_await in.has(at) && in[at] == '"';
    if (!quote) co_return JsonCall{.is_call = false, .end = at};
    const Span key_span = co_await string_end(in, at);
    if (!key_span.complete) co_return JsonCall{.is_call = false, .end = key_span.end};
    const auto key = string_value(in.view(at, key_span.end));
    at = co_await skip_space(in, key_span.end);
    const bool colon = co_await in.has(at) && in[at] == ':';
    if (!key || !colon) co_return JsonCall{.is_call = false, .end = at};
    at = co_await skip_space(in, at + 1);

    const bool is_arguments = !arguments && (key == "arguments" || key == "parameters");
    if (is_arguments && name) {
      const bool object = co_await in.has(at) && in[at] == '{';
      if (object) {
        // An object of another language ({'a': 1}) shows at its first key.
        const size_t first = co_await skip_space(in, at + 1);
        const bool there = co_await in.has(first);
        if (there && in[first] != '"' && in[first] != '}') co_return JsonCall{.is_call = false, .end = first};
        in.drop(at);
        co_await send_call(in, out, *name);
        co_return JsonCall{.is_call = true, .end = 0};
      }
    }
    const Span value = co_await value_end(in, at);
    if (!value.complete) co_return JsonCall{.is_call = false, .end = value.end};
    if (is_arguments) {
      arguments = arguments_text(in.view(at, value.end));
      if (!arguments) co_return JsonCall{.is_call = false, .end = value.end};
    } else if (key == "name" && !name) {
      name = string_value(in.view(at, value.end));
      if (!name || name->empty()) co_return JsonCall{.is_call = false, .end = value.end};
    }
    at = co_await skip_space(in, value.end);
    const bool there = co_await in.has(at);
    closed = there && in[at] == '}';
    if (!closed && (!there || in[at] != ',')) co_return JsonCall{.is_call = false, .end = at};
    at = closed ? at + 1 : co_await skip_space(in, at + 1);
  }
  if (!name || !Json::accept(in.view(offset, at))) co_return JsonCall{.is_call = false, .end = at};
  out.begin(*name);
  out.arguments(arguments.value_or("{}"));
  out.end(false);
  in.drop(at);
  co_return JsonCall{.is_call = true, .end = 0};
}

}  // namespace packmule::chat
