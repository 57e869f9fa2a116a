#include "cli/conversation.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "chat/messages.h"
#include "chat/reasoning.h"

namespace packmule::cli {

Conversation::Conversation(const engine::Engine& engine, std::unique_ptr<chat::TemplateEngine> chat_template,
                           Json variables)
    : engine_(engine),
      template_(std::move(chat_template)),
      typed_text_(engine.tokenizer().control_tokens()),
      variables_(std::move(variables)) {
  // Templates may name these; what the user said in --chat-template-kwargs comes first.
  const auto add_token = [&](const char* name, text::TokenId id) {
    if (id >= 0 && !variables_.contains(name))
      variables_[name] = std::string(engine_.tokenizer().token_bytes(id));
  };
  add_token("bos_token", engine_.tokenizer().bos());
  add_token("eos_token", engine_.tokenizer().eos());
  variables_["add_generation_prompt"] = true;
}

void Conversation::clear() {
  turns_ = Json::array();
}

void Conversation::set_system(std::string text) {
  system_ = std::move(text);
}

Result<Prompt> Conversation::ask(const std::string& text) {
  Json messages = Json::array();
  if (!system_.empty()) messages.push_back({{"role", "system"}, {"content", system_}});
  for (const Json& turn : turns_) messages.push_back(turn);
  Json question = {{"role", "user"}, {"content", text}};
  messages.push_back(question);
  PACKMULE_TRY(const auto rendered, typed_text_.render(*template_, messages, nullptr, variables_));
  Prompt prompt;
  PACKMULE_TRY(prompt.tokens,
               engine_.tokenizer().encode(rendered.text, text::ParseSpecial::kAll, rendered.typed_control));
  prompt.opens_reasoning = chat::opens_reasoning(rendered.text);
  turns_.push_back(std::move(question));
  return prompt;
}

void Conversation::add_answer(const std::string& text, bool opened_reasoning) {
  chat::ReasoningSplitter splitter(opened_reasoning);
  const auto first = splitter.push(text);
  const auto rest = splitter.finish();
  Json message = {{"role", "assistant"}, {"content", first.content + rest.content}};
  // Templates of thinking models decide themselves which thoughts stay in the prompt.
  const std::string reasoning = first.reasoning + rest.reasoning;
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  turns_.push_back(std::move(message));
}

void Conversation::forget_question() {
  turns_.erase(turns_.size() - 1);
}

Result<std::unique_ptr<Conversation>> start_conversation(const engine::Engine& engine,
                                                         const std::string& template_path,
                                                         const Json& variables) {
  PACKMULE_TRY(const auto chosen, chat::choose_template(engine.chat_template(), template_path));
  if (chosen.is_fallback)
    fmt::print(stderr,
               "packmule: {} has no chat template: using ChatML; --chat-template-file names another\n",
               engine.file().path());
  PACKMULE_TRY(auto chat_template, chat::TemplateEngine::create(chosen.source));
  return std::make_unique<Conversation>(engine, std::move(chat_template), variables);
}

}  // namespace packmule::cli
