// The JSON of an answer to /v1/chat/completions: whole, or as the chunks of a stream.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/answer_reader.h"
#include "base/json.h"
#include "engine/engine.h"

namespace packmule::api {

class ChatAnswer {
 public:
  /// Draws a new id ("chatcmpl-...") and takes the time. `with_usage`: chunks carry "usage" (null until the
  /// last).
  ChatAnswer(std::string model, bool with_usage);

  /// `parts` are all that `reader` gave.
  [[nodiscard]] Json whole(const engine::Outcome& outcome, const AnswerReader& reader,
                           const std::vector<AnswerPart>& parts) const;

  [[nodiscard]] Json first_chunk() const;  // the role
  [[nodiscard]] Json part_chunk(const AnswerPart& part) const;
  [[nodiscard]] Json finish_chunk(const engine::Outcome& outcome, const AnswerReader& reader) const;
  /// Only with `with_usage`: no choices, the usage of the whole request.
  [[nodiscard]] Json usage_chunk(const engine::Outcome& outcome) const;

  [[nodiscard]] const std::string& id() const { return id_; }

 private:
  [[nodiscard]] Json chunk(Json choices) const;

  std::string id_;
  std::string model_;
  int64_t created_;
  bool with_usage_;
};

/// "length" when the answer was cut off, in a call too; else "tool_calls" when there are any, but not when a
/// stop string ended the last of them; else "stop".
[[nodiscard]] std::string_view finish_reason(engine::FinishReason reason, const AnswerReader& reader);

}  // namespace packmule::api
