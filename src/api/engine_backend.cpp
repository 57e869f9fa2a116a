#include "api/engine_backend.h"

#include <ctime>

#include "api/messages.h"

namespace packmule::api {
namespace {

ModelInfo describe(const engine::Engine& engine, std::string name, std::string template_source) {
  ModelInfo info{.name = name.empty() ? engine.model_name() : std::move(name),
                 .created = static_cast<int64_t>(std::time(nullptr)),
                 .n_vocab = engine.model().hparams().n_vocab,
                 .n_ctx = engine.options().ctx_size,
                 .n_ctx_train = engine.model().hparams().context_length,
                 .n_embd = engine.model().hparams().hidden,
                 .path = engine.options().model_path,
                 .chat_template = std::move(template_source)};
  if (const text::TokenId eos = engine.tokenizer().eos(); eos >= 0)
    info.eos_token = engine.tokenizer().token_bytes(eos);
  for (const auto& tensor : engine.file().tensors()) {
    info.n_params += tensor.n_elems();
    info.size_bytes += static_cast<int64_t>(tensor.size_bytes);
  }
  return info;
}

}  // namespace

EngineBackend::EngineBackend(std::unique_ptr<engine::Engine> engine,
                             std::unique_ptr<chat::TemplateEngine> chat_template, sampling::Params sampling,
                             std::string name, std::string template_source)
    : engine_(std::move(engine)),
      template_(std::move(chat_template)),
      typed_text_(engine_->tokenizer().control_tokens()),
      sampling_(std::move(sampling)),
      info_(describe(*engine_, std::move(name), std::move(template_source))),
      needs_object_arguments_(api::needs_object_arguments([this](const Json& m) { return probe(m); })),
      writes_tool_calls_(api::writes_tool_calls([this](const Json& m) { return probe(m); })) {
  habits_ = {.call_form = call_form(Json::object()),
             .writes_calls = writes_tool_calls_,
             .thinks = engine_->chat_template().find("<think>") != std::string_view::npos};
}

OutputGrammars* EngineBackend::output_grammars() {
  std::call_once(grammars_made_, [this] {
    grammars_ = std::make_unique<OutputGrammars>(
        grammar::Vocabulary::of(engine_->tokenizer(), engine_->model().hparams().n_vocab));
  });
  return grammars_.get();
}

Result<std::string> EngineBackend::probe(const Json& messages, Json kwargs) {
  kwargs["add_generation_prompt"] = false;
  return template_->render(messages, nullptr, kwargs);
}

grammar::CallForm EngineBackend::call_form(const Json& kwargs) {
  return api::writes_json_calls([&](const Json& m) { return probe(m, kwargs); }) ? grammar::CallForm::kJson
                                                                                 : grammar::CallForm::kXml;
}

AnswerHabits EngineBackend::answer_habits(const Json& kwargs) {
  AnswerHabits habits = habits_;
  if (kwargs.size() > kwargs.count("add_generation_prompt")) habits.call_form = call_form(kwargs);
  return habits;
}

Result<chat::Rendered> EngineBackend::apply_template(const Json& messages, const Json& tools,
                                                     const Json& kwargs) {
  return typed_text_.render(*template_, messages, tools, kwargs);
}

Result<std::vector<int32_t>> EngineBackend::tokenize(std::string_view text, text::ParseSpecial special,
                                                     std::span<const size_t> never_control) const {
  return engine_->tokenizer().encode(text, special, never_control);
}

int32_t EngineBackend::bos() const {
  return engine_->tokenizer().add_bos() ? engine_->tokenizer().bos() : -1;
}

std::string_view EngineBackend::token_bytes(int32_t token) const {
  return engine_->tokenizer().token_bytes(token);
}

Result<engine::Outcome> EngineBackend::generate(const engine::Request& request,
                                                const engine::Callbacks& callbacks, std::stop_token stop) {
  return engine_->generate(request, callbacks, std::move(stop));
}

}  // namespace packmule::api
