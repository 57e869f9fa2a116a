// The answer to /v1/completions: whole, or as the chunks of a stream.
#pragma once

#include <string>
#include <vector>

#include "api/answer_writer.h"
#include "api/backend.h"
#include "api/generation_fields.h"

namespace packmule::api {

struct CompletionAnswerForm {
  size_t n_per_prompt = 1;
  std::vector<std::string> echoed;  // what the text of each choice begins with; empty: nothing
  Streaming streaming;
  bool with_logprobs = false;
};

class CompletionAnswer : public AnswerWriter {
 public:
  CompletionAnswer(const Backend& backend, CompletionAnswerForm form);

  [[nodiscard]] const std::string& id() const override { return id_; }
  [[nodiscard]] Json whole(const std::vector<WholeAnswer>& answers) override;
  [[nodiscard]] std::string begin(size_t n_prompt_tokens) override;
  [[nodiscard]] std::string reading(size_t choice, int64_t done, const engine::Statistics& so_far) override;
  [[nodiscard]] std::string part(size_t choice, const AnswerPart& part) override;
  [[nodiscard]] std::string end(size_t choice, const Ending& ending) override;
  [[nodiscard]] std::string finish(const std::vector<Ending>& endings) override;
  [[nodiscard]] std::string failed(const ApiError& error) override;

 private:
  [[nodiscard]] Json object(Json choices) const;
  [[nodiscard]] Json choice(size_t index, std::string text) const;
  /// In the form of this endpoint: four lists. `offset` is where the first token stands in the text, in
  /// characters, and becomes where the last ends.
  [[nodiscard]] Json logprobs(const std::vector<AnswerToken>& tokens, size_t& offset) const;

  const Backend& backend_;
  const CompletionAnswerForm form_;
  const std::string id_;
  const int64_t created_;
  size_t choice_ = 0;  // of the stream, being written
  size_t offset_ = 0;  // in its text
};

}  // namespace packmule::api
