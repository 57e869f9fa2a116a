// The answer to Anthropic's /v1/messages: whole, or as the events of a stream.
#pragma once

#include <string>

#include "api/answer_writer.h"

namespace packmule::api {

class AnthropicAnswer : public AnswerWriter {
 public:
  explicit AnthropicAnswer(std::string model);

  [[nodiscard]] const std::string& id() const override { return id_; }
  [[nodiscard]] Json whole(const std::vector<WholeAnswer>& answers) override;
  [[nodiscard]] std::string begin(size_t n_prompt_tokens) override;
  [[nodiscard]] std::string reading(size_t, int64_t, const engine::Statistics&) override { return alive(); }
  [[nodiscard]] std::string part(size_t choice, const AnswerPart& part) override;
  [[nodiscard]] std::string end(size_t choice, const Ending& ending) override;
  [[nodiscard]] std::string finish(const std::vector<Ending>& endings) override;
  [[nodiscard]] std::string failed(const ApiError& error) override;

 private:
  [[nodiscard]] static std::string alive();
  [[nodiscard]] Json message() const;
  /// Ends the block that is being written, and begins one for this part.
  [[nodiscard]] std::string open_block(const AnswerPart& part);
  [[nodiscard]] std::string close_block();

  const std::string model_;
  const std::string id_;
  int block_ = -1;  // index of the last one
  bool open_ = false;
  AnswerPart::Kind kind_ = AnswerPart::Kind::kContent;  // of the one that is open; kCall for tool_use
};

}  // namespace packmule::api
