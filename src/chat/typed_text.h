// Keeps text that people and tools wrote from turning into control tokens.
//
// A template joins its own control tokens with strings from outside, and the tokenizer cannot tell an
// <|im_end|> that a user typed (or that a tool read somewhere) from one that ends his turn. So a mark is put
// into the strings before they are rendered, wherever a control token could begin, and taken out of the
// prompt afterwards: what is left of it are the places where the tokenizer must read plain text
// (text::Tokenizer::encode). The mark is a Unicode noncharacter, which templates pass on like any other.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "chat/template_engine.h"

namespace packmule::chat {

/// What a template made of a conversation.
struct Rendered {
  std::string text;
  /// Byte offsets, ascending, at which text from outside reads like a control token or the beginning of one.
  std::vector<size_t> typed_control;
};

class TypedText {
 public:
  /// The texts of the model's control tokens.
  explicit TypedText(std::vector<std::string> control_tokens);

  /// TemplateEngine::render, for a prompt that will be tokenized. All strings of messages and tools are text
  /// from outside, keys too; `kwargs` is not, as templates take `bos_token` from it. An error when the
  /// strings hold every mark there is.
  [[nodiscard]] Result<Rendered> render(TemplateEngine& chat_template, const Json& messages,
                                        const Json& tools, const Json& kwargs) const;

 private:
  /// Whether the text begins with a control token, or is a beginning of one that text behind it could
  /// complete.
  [[nodiscard]] bool may_begin_control(std::string_view text) const;
  [[nodiscard]] std::string marked(std::string_view text, std::string_view mark) const;
  [[nodiscard]] Json marked(const Json& value, std::string_view mark) const;

  std::vector<std::string> control_tokens_;  // sorted
  std::vector<size_t> sizes_;                // the different sizes of them in bytes, descending
  std::array<bool, 256> first_bytes_{};
};

}  // namespace packmule::chat
