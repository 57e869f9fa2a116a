// A conversation with a model: its messages, and the prompt they make.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "chat/template_engine.h"
#include "chat/typed_text.h"
#include "engine/engine.h"

namespace packmule::cli {

struct Prompt {
  std::vector<int32_t> tokens;
  bool opens_reasoning = false;  // the template has already opened the thought
};

class Conversation {
 public:
  /// `variables` are handed to the template (--chat-template-kwargs); an object. The engine must live longer.
  Conversation(const engine::Engine& engine, std::unique_ptr<chat::TemplateEngine> chat_template,
               Json variables);

  /// Starts from the beginning; the system prompt stays. "" for none.
  void clear();
  void set_system(std::string text);

  /// Adds what the user said and gives the prompt for the answer. On an error nothing is added.
  [[nodiscard]] Result<Prompt> ask(const std::string& text);
  /// Adds the answer to the last question. `text` is what the model wrote, thoughts included.
  void add_answer(const std::string& text, bool opened_reasoning);
  /// Takes the last question back: there is no answer to it.
  void forget_question();

 private:
  const engine::Engine& engine_;
  std::unique_ptr<chat::TemplateEngine> template_;
  chat::TypedText typed_text_;
  Json variables_;
  std::string system_;
  Json turns_ = Json::array();  // without the system prompt
};

/// The conversation as a model of this file wants it: its template or the one in `template_path`, else ChatML
/// with a warning on stderr.
[[nodiscard]] Result<std::unique_ptr<Conversation>> start_conversation(const engine::Engine& engine,
                                                                       const std::string& template_path,
                                                                       const Json& variables);

}  // namespace packmule::cli
