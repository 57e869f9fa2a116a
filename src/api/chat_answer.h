// The answer to /v1/chat/completions: whole, or as the chunks of a stream.
#pragma once

#include <string>

#include "api/answer_writer.h"
#include "api/backend.h"
#include "api/generation_fields.h"

namespace packmule::api {

struct ChatAnswerForm {
  size_t n_choices = 1;
  Streaming streaming;
  bool with_logprobs = false;
};

class ChatAnswer : public AnswerWriter {
 public:
  /// Draws a new id ("chatcmpl-...") and takes the time.
  ChatAnswer(const Backend& backend, ChatAnswerForm form);

  [[nodiscard]] const std::string& id() const override { return id_; }
  [[nodiscard]] Json whole(const std::vector<WholeAnswer>& answers) override;
  [[nodiscard]] std::string begin(size_t n_prompt_tokens) override;
  [[nodiscard]] std::string reading(size_t choice, int64_t done, const engine::Statistics& so_far) override;
  [[nodiscard]] std::string part(size_t choice, const AnswerPart& part) override;
  [[nodiscard]] std::string end(size_t choice, const Ending& ending) override;
  [[nodiscard]] std::string finish(const std::vector<Ending>& endings) override;
  [[nodiscard]] std::string failed(const ApiError& error) override;

 private:
  [[nodiscard]] Json chunk(Json choices) const;
  [[nodiscard]] Json choice(size_t index, Json delta) const;

  const Backend& backend_;
  const ChatAnswerForm form_;
  const std::string id_;
  const int64_t created_;
};

}  // namespace packmule::api
