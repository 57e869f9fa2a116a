// The real backend: an engine and its chat template.
#pragma once

#include <memory>
#include <mutex>

#include "api/backend.h"
#include "chat/template_engine.h"
#include "engine/engine.h"

namespace packmule::api {

class EngineBackend : public Backend {
 public:
  /// `name` is what the model is called outside, "" for the model's own name; `sampling` what requests leave
  /// unset; `template_source` what `chat_template` was made of.
  EngineBackend(std::unique_ptr<engine::Engine> engine, std::unique_ptr<chat::TemplateEngine> chat_template,
                sampling::Params sampling, std::string name, std::string template_source);

  const ModelInfo& info() const override { return info_; }
  const sampling::Params& default_sampling() const override { return sampling_; }
  engine::State state() const override { return engine_->state(); }
  Result<chat::Rendered> apply_template(const Json& messages, const Json& tools, const Json& kwargs) override;
  bool needs_object_arguments() const override { return needs_object_arguments_; }
  bool writes_tool_calls() const override { return writes_tool_calls_; }
  AnswerHabits answer_habits(const Json& kwargs) override;
  OutputGrammars* output_grammars() override;
  Result<std::vector<int32_t>> tokenize(std::string_view text, text::ParseSpecial special,
                                        std::span<const size_t> never_control) const override;
  int32_t bos() const override;
  std::string_view token_bytes(int32_t token) const override;
  Result<engine::Outcome> generate(const engine::Request& request, const engine::Callbacks& callbacks,
                                   std::stop_token stop) override;
  Result<engine::Engine::SlotFile> save_slot(int slot, const std::string& path,
                                             std::stop_token stop) override {
    return engine_->save_slot(slot, path, std::move(stop));
  }
  Result<engine::Engine::SlotFile> restore_slot(int slot, const std::string& path,
                                                std::stop_token stop) override {
    return engine_->restore_slot(slot, path, std::move(stop));
  }
  Result<int64_t> erase_slot(int slot, std::stop_token stop) override {
    return engine_->erase_slot(slot, std::move(stop));
  }

 private:
  /// A prompt of these messages, without the opening of an answer.
  Result<std::string> probe(const Json& messages, Json kwargs = Json::object());
  grammar::CallForm call_form(const Json& kwargs);

  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<chat::TemplateEngine> template_;
  chat::TypedText typed_text_;
  sampling::Params sampling_;
  ModelInfo info_;
  bool needs_object_arguments_;
  bool writes_tool_calls_;
  AnswerHabits habits_;
  std::once_flag grammars_made_;
  std::unique_ptr<OutputGrammars> grammars_;  // made for the first request that may need it
};

}  // namespace packmule::api
