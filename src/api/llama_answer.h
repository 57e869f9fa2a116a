// The answer to llama-server's own /completion: whole, or as the chunks of a stream.
#pragma once

#include <string>
#include <vector>

#include "api/answer_writer.h"
#include "api/completion_request.h"

namespace packmule::api {

/// What a generation is made with, under llama-server's names.
[[nodiscard]] Json generation_settings_json(const engine::Request& generation, bool stream);

class LlamaAnswer : public AnswerWriter {
 public:
  LlamaAnswer(const Backend& backend, CompletionRequest request);

  [[nodiscard]] const std::string& id() const override { return id_; }
  /// An object, for several prompts or answers an array of them.
  [[nodiscard]] Json whole(const std::vector<WholeAnswer>& answers) override;
  [[nodiscard]] std::string begin(size_t n_prompt_tokens) override;
  [[nodiscard]] std::string reading(size_t choice, int64_t done, const engine::Statistics& so_far) override;
  [[nodiscard]] std::string part(size_t choice, const AnswerPart& part) override;
  [[nodiscard]] std::string end(size_t choice, const Ending& ending) override;
  [[nodiscard]] std::string finish(const std::vector<Ending>& endings) override;
  [[nodiscard]] std::string failed(const ApiError& error) override;

 private:
  [[nodiscard]] Json answer(size_t index, std::string content, const std::vector<AnswerToken>& tokens) const;
  void add_ending(size_t index, const Ending& ending, Json& out) const;

  const Backend& backend_;
  const CompletionRequest request_;
  const std::string id_;
  size_t choice_ = 0;          // of the stream, being written
  int64_t n_predicted_ = 0;    // tokens of it
  bool any_new_line_ = false;  // in its text
};

}  // namespace packmule::api
