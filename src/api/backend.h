// What the endpoints need of a model. The real one wraps the engine and its chat template (engine_backend.h);
// tests bring their own.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "api/output_grammar.h"
#include "base/json.h"
#include "base/result.h"
#include "chat/typed_text.h"
#include "engine/engine.h"

namespace packmule::api {

struct ModelInfo {
  std::string name;           // what /v1/models and the answers call it
  int64_t created = 0;        // seconds since 1970: when the server loaded it
  int64_t n_vocab = 0;        // rows of the embedding
  int64_t n_ctx = 0;          // tokens of context this server gives
  int64_t n_ctx_train = 0;    // tokens of context the model was trained for
  int64_t n_embd = 0;         // width of the hidden state
  int64_t n_params = 0;       // weights
  int64_t size_bytes = 0;     // of the weights as stored
  std::string path;           // of the model's file
  std::string chat_template;  // its source
  std::string eos_token;      // text of the token that ends a turn; "" if there is none
};

/// All may be called from several threads at once.
class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual const ModelInfo& info() const = 0;
  [[nodiscard]] virtual const sampling::Params& default_sampling() const = 0;
  /// What it is doing.
  [[nodiscard]] virtual engine::State state() const = 0;

  /// The prompt; `tools` null when there are none.
  [[nodiscard]] virtual Result<chat::Rendered> apply_template(const Json& messages, const Json& tools,
                                                              const Json& kwargs) = 0;
  /// The template wants tool-call arguments as objects, not as JSON text (see messages.h).
  [[nodiscard]] virtual bool needs_object_arguments() const = 0;
  /// The template shows the model how tools are called, in a form that is understood (see messages.h).
  [[nodiscard]] virtual bool writes_tool_calls() const = 0;
  /// How calls and thoughts are written by a template that is given `kwargs`, which may choose the form; what
  /// a prompt says about them is left out.
  [[nodiscard]] virtual AnswerHabits answer_habits(const Json& /*kwargs*/) {
    return {.writes_calls = writes_tool_calls()};
  }
  /// nullptr: answers cannot be constrained.
  [[nodiscard]] virtual OutputGrammars* output_grammars() { return nullptr; }
  /// As text::Tokenizer::encode.
  [[nodiscard]] virtual Result<std::vector<int32_t>> tokenize(
      std::string_view text, text::ParseSpecial special, std::span<const size_t> never_control) const = 0;
  /// Put before a prompt when special tokens are added; -1: none.
  [[nodiscard]] virtual int32_t bos() const = 0;
  /// Bytes of a token, control tokens included; "" for an id that has none.
  [[nodiscard]] virtual std::string_view token_bytes(int32_t token) const = 0;
  [[nodiscard]] virtual Result<engine::Outcome> generate(const engine::Request& request,
                                                         const engine::Callbacks& callbacks,
                                                         std::stop_token stop) = 0;

  // As those of engine::Engine. A backend without slots has none that could be saved.
  [[nodiscard]] virtual Result<engine::Engine::SlotFile> save_slot(int, const std::string&, std::stop_token) {
    return no_slots();
  }
  [[nodiscard]] virtual Result<engine::Engine::SlotFile> restore_slot(int, const std::string&,
                                                                      std::stop_token) {
    return no_slots();
  }
  [[nodiscard]] virtual Result<int64_t> erase_slot(int, std::stop_token) { return no_slots(); }

 private:
  static tl::unexpected<Error> no_slots() {
    return fail(ErrorKind::kUnsupported, "slots cannot be saved, restored or erased here");
  }
};

}  // namespace packmule::api
