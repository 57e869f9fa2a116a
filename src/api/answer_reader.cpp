#include "api/answer_reader.h"

#include <utility>

#include "api/random_id.h"

namespace packmule::api {

AnswerReader::AnswerReader(const AnswerForm& form)
    : split_(form.split_reasoning),
      one_call_(form.one_call),
      splitter_(form.inside_reasoning, !form.tools.is_null()),
      parser_(form.tools) {}

std::vector<AnswerPart> AnswerReader::push(std::string_view text) {
  std::vector<AnswerPart> parts;
  if (split_)
    add(splitter_.push(text), parts);
  else
    add(parser_.push(text), parts);
  return parts;
}

std::vector<AnswerPart> AnswerReader::finish() {
  std::vector<AnswerPart> parts;
  if (split_) add(splitter_.finish(), parts);
  add(parser_.finish(), parts);
  return parts;
}

void AnswerReader::add(const chat::ReasoningSplitter::Delta& delta, std::vector<AnswerPart>& parts) {
  if (!delta.reasoning.empty())
    parts.push_back({.kind = AnswerPart::Kind::kReasoning, .text = delta.reasoning});
  add(parser_.push(delta.content), parts);
}

void AnswerReader::add(std::vector<chat::CallEvent> events, std::vector<AnswerPart>& parts) {
  using Kind = chat::CallEvent::Kind;
  for (chat::CallEvent& event : events) {
    if (enough_) return;
    switch (event.kind) {
      case Kind::kText:
        parts.push_back({.kind = AnswerPart::Kind::kContent, .text = std::move(event.text)});
        break;
      case Kind::kBegin:
        parts.push_back({.kind = AnswerPart::Kind::kCall,
                         .text = std::move(event.text),
                         .call = n_calls_++,
                         .id = random_id("call_", 24)});
        break;
      case Kind::kArguments:
        parts.push_back(
            {.kind = AnswerPart::Kind::kArguments, .text = std::move(event.text), .call = n_calls_ - 1});
        break;
      case Kind::kEnd:
        cut_in_call_ = event.incomplete;
        enough_ = one_call_;
        break;
      case Kind::kWarning:
        warnings_.insert(std::move(event.text));
        break;
    }
  }
}

}  // namespace packmule::api
