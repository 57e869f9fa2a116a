// Takes what the model writes apart into what an answer consists of: thoughts, text, tool calls.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/reasoning.h"
#include "chat/tool_calls.h"
#include "engine/engine.h"

namespace packmule::api {

/// How the text of an answer is to be read.
struct AnswerForm {
  bool split_reasoning = true;
  bool inside_reasoning = false;  // the prompt already opened the thought
  Json tools;                     // whose calls are looked for; null: none
  bool one_call = false;          // the answer ends behind the first call
  bool with_tokens = false;       // parts carry the tokens
};

/// A generated token and, if they are wanted, log probabilities as engine::Piece has them.
struct AnswerToken {
  int32_t id = 0;
  std::vector<engine::TokenLogprob> logprobs;
};

struct AnswerPart {
  enum class Kind { kReasoning, kContent, kCall, kArguments };
  Kind kind = Kind::kContent;
  std::string text;  // kCall: the function's name; kArguments: the next part of their JSON text
  size_t call = 0;   // kCall, kArguments: number of the call, from 0
  std::string id;    // kCall: drawn for it
  /// Generated since the part before this one, where the dialect wants to know (AnswerForm::with_tokens).
  std::vector<AnswerToken> tokens = {};
  engine::Statistics so_far = {};  // when it was written
};

class AnswerReader {
 public:
  explicit AnswerReader(const AnswerForm& form);

  /// The next text of the model, cut anywhere; the parts are in order.
  [[nodiscard]] std::vector<AnswerPart> push(std::string_view text);
  /// What was held back. Call once, at the end, whatever ended the answer.
  [[nodiscard]] std::vector<AnswerPart> finish();

  [[nodiscard]] bool any_call() const { return n_calls_ > 0; }
  /// The answer ended inside its last call.
  [[nodiscard]] bool cut_in_call() const { return cut_in_call_; }
  /// Only one call is wanted, and it is there: what follows is ignored.
  [[nodiscard]] bool enough() const { return enough_; }
  /// What was odd about the calls, each kind once; never words of the conversation.
  [[nodiscard]] const std::set<std::string>& warnings() const { return warnings_; }

 private:
  void add(const chat::ReasoningSplitter::Delta& delta, std::vector<AnswerPart>& parts);
  void add(std::vector<chat::CallEvent> events, std::vector<AnswerPart>& parts);

  const bool split_;
  const bool one_call_;
  chat::ReasoningSplitter splitter_;
  chat::ToolCallParser parser_;
  size_t n_calls_ = 0;
  bool cut_in_call_ = false;
  bool enough_ = false;
  std::set<std::string> warnings_;
};

}  // namespace packmule::api
