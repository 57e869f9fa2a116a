#include "chat/typed_text.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

namespace packmule::chat {
namespace {

constexpr int kMarks = 32;
constexpr size_t kMarkBytes = 3;

/// U+FDD0 to U+FDEF, never assigned to characters.
std::array<char, kMarkBytes> mark_bytes(int i) {
  return {'\xEF', '\xB7', static_cast<char>(0x90 + i)};
}

void find_marks_in_text(std::string_view text, std::array<bool, kMarks>& used) {
  for (size_t at = 0; (at = text.find("\xEF\xB7", at)) < text.size(); ++at) {
    if (at + kMarkBytes > text.size()) break;
    const int i = static_cast<uint8_t>(text[at + 2]) - 0x90;
    if (i >= 0 && i < kMarks) used[static_cast<size_t>(i)] = true;
  }
}

void find_marks(const Json& value, std::array<bool, kMarks>& used) {
  if (value.is_string()) find_marks_in_text(value.get_ref<const std::string&>(), used);
  if (!value.is_structured()) return;
  for (const auto& item : value.items()) {
    if (value.is_object()) find_marks_in_text(item.key(), used);
    find_marks(item.value(), used);
  }
}

/// Takes the marks out; where they stood, as offsets of what is left.
std::vector<size_t> remove_marks(std::string& text, std::string_view mark) {
  std::vector<size_t> places;
  size_t to = 0;
  for (size_t from = 0; from < text.size();) {
    if (std::string_view(text).substr(from).starts_with(mark)) {
      if (places.empty() || places.back() != to) places.push_back(to);
      from += mark.size();
    } else {
      text[to++] = text[from++];
    }
  }
  text.resize(to);
  return places;
}

}  // namespace

TypedText::TypedText(std::vector<std::string> control_tokens) : control_tokens_(std::move(control_tokens)) {
  std::erase(control_tokens_, "");
  std::sort(control_tokens_.begin(), control_tokens_.end());
  for (const std::string& token : control_tokens_) {
    sizes_.push_back(token.size());
    first_bytes_[static_cast<uint8_t>(token[0])] = true;
  }
  std::sort(sizes_.begin(), sizes_.end(), std::greater<>());
  sizes_.erase(std::unique(sizes_.begin(), sizes_.end()), sizes_.end());
}

bool TypedText::may_begin_control(std::string_view text) const {
  if (!first_bytes_[static_cast<uint8_t>(text[0])]) return false;
  if (text.size() < sizes_.front()) {
    const auto next = std::lower_bound(control_tokens_.begin(), control_tokens_.end(), text);
    if (next != control_tokens_.end() && next->starts_with(text)) return true;
  }
  return std::any_of(sizes_.begin(), sizes_.end(), [&](size_t size) {
    return size <= text.size() &&
           std::binary_search(control_tokens_.begin(), control_tokens_.end(), text.substr(0, size));
  });
}

std::string TypedText::marked(std::string_view text, std::string_view mark) const {
  // Templates trim what they are given, and what stands before the white space can then be completed by other
  // text. All that is not ASCII may be white space.
  std::string_view trimmed = text;
  while (!trimmed.empty() &&
         (static_cast<uint8_t>(trimmed.back()) <= 0x20 || static_cast<uint8_t>(trimmed.back()) >= 0x80))
    trimmed.remove_suffix(1);
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    if (may_begin_control(text.substr(at)) || (at < trimmed.size() && may_begin_control(trimmed.substr(at))))
      out += mark;
    out += text[at];
  }
  return out;
}

Json TypedText::marked(const Json& value, std::string_view mark) const {
  if (value.is_string()) return marked(std::string_view(value.get_ref<const std::string&>()), mark);
  if (!value.is_structured()) return value;
  Json out = value.is_object() ? Json::object() : Json::array();
  for (const auto& item : value.items()) {
    if (value.is_object())
      // Not `emplace`, which looks for the key among all members; different keys stay different.
      out.get_ref<Json::object_t&>().emplace_back(marked(std::string_view(item.key()), mark),
                                                  marked(item.value(), mark));
    else
      out.push_back(marked(item.value(), mark));
  }
  return out;
}

Result<Rendered> TypedText::render(TemplateEngine& chat_template, const Json& messages, const Json& tools,
                                   const Json& kwargs) const {
  std::array<bool, kMarks> used{};
  find_marks(messages, used);
  find_marks(tools, used);
  const auto free = std::find(used.begin(), used.end(), false);
  if (free == used.end())
    return fail(
        ErrorKind::kInvalidArgument,
        "messages: hold all of the characters U+FDD0 to U+FDEF, which stand for no text; take one out");
  const auto bytes = mark_bytes(static_cast<int>(free - used.begin()));
  const std::string_view mark(bytes.data(), bytes.size());
  auto text = chat_template.render(marked(messages, mark), marked(tools, mark), kwargs);
  if (!text) {
    remove_marks(text.error().message, mark);  // a template may quote what it refuses
    return tl::unexpected<Error>(std::move(text).error());
  }
  Rendered rendered{.text = std::move(text).value(), .typed_control = {}};
  rendered.typed_control = remove_marks(rendered.text, mark);
  return rendered;
}

}  // namespace packmule::chat
