// The answer to OpenAI's /v1/responses: whole, or as the events of a stream.
#pragma once

#include <string>

#include "api/answer_writer.h"
#include "api/backend.h"
#include "api/responses_tools.h"

namespace packmule::api {

class ResponsesAnswer : public AnswerWriter {
 public:
  /// What the request asked for is repeated in the answer, as clients expect it.
  ResponsesAnswer(const Backend& backend, const Json& request);

  [[nodiscard]] const std::string& id() const override { return id_; }
  [[nodiscard]] Json whole(const std::vector<WholeAnswer>& answers) override;
  [[nodiscard]] std::string begin(size_t n_prompt_tokens) override;
  [[nodiscard]] std::string part(size_t choice, const AnswerPart& part) override;
  [[nodiscard]] std::string end(size_t choice, const Ending& ending) override;
  [[nodiscard]] std::string finish(const std::vector<Ending>& endings) override;
  [[nodiscard]] std::string failed(const ApiError& error) override;

 private:
  using Kind = AnswerPart::Kind;

  [[nodiscard]] Json response() const;
  void complete(const Ending& ending, Json& response) const;
  /// Adds an item to the output, without its content.
  void begin_item(const AnswerPart& part);
  /// Adds to the content of the last item.
  void extend_item(const AnswerPart& part);
  [[nodiscard]] bool says_nothing(const AnswerPart& part) const;
  /// An event about the last item, numbered.
  [[nodiscard]] std::string item_event(std::string_view type, Json fields);
  [[nodiscard]] std::string event(std::string_view type, Json fields);
  [[nodiscard]] std::string open_item(const AnswerPart& part);
  [[nodiscard]] std::string close_item();

  const Backend& backend_;
  const std::string id_;
  const int64_t created_;
  Json repeated_;  // of the request
  const NamespacedTools tools_;
  Json output_ = Json::array();
  Kind kind_ = Kind::kContent;  // of the last item; kCall for a function_call
  bool open_ = false;           // more may be added to it
  bool cut_ = false;            // the answer ended inside it
  int64_t n_events_ = 0;
};

}  // namespace packmule::api
