#include "api/anthropic_answer.h"

#include "api/json_text.h"
#include "api/random_id.h"

namespace packmule::api {
namespace {

using Kind = AnswerPart::Kind;

/// Arguments are written into the block of their call.
Kind block_kind(Kind part) {
  return part == Kind::kArguments ? Kind::kCall : part;
}

/// A block without its content.
Json empty_block(const AnswerPart& part) {
  switch (block_kind(part.kind)) {
    case Kind::kReasoning:
      return {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
    case Kind::kContent:
      return {{"type", "text"}, {"text", ""}};
    default:
      return {{"type", "tool_use"}, {"id", part.id}, {"name", part.text}, {"input", Json::object()}};
  }
}

/// The input of a call must be an object: what was cut off, or is none, is handed on as the text it is.
Json input_of(const std::string& arguments) {
  if (arguments.empty()) return Json::object();
  auto parsed = parse_json(arguments, "the arguments");
  if (parsed && parsed->is_object()) return std::move(parsed).value();
  return {{"raw_arguments", arguments}};
}

/// Tokens that were found in the cache are counted apart here.
Json usage(const engine::Statistics& s) {
  return {{"input_tokens", s.prompt_tokens - s.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", s.cached_tokens},
          {"output_tokens", s.generated_tokens}};
}

std::string_view stop_reason(Ended ended) {
  switch (ended) {
    case Ended::kByModel:
      break;
    case Ended::kStopString:
      return "stop_sequence";
    case Ended::kLength:
      return "max_tokens";
    case Ended::kCalls:
      return "tool_use";
  }
  return "end_turn";
}

Json stop_sequence(const Ending& ending) {
  return ending.ended == Ended::kStopString ? Json(ending.stop_string) : Json(nullptr);
}

std::string event(const Json& json) {
  return sse_event(json.at("type").get_ref<const std::string&>(), json);
}

}  // namespace

AnthropicAnswer::AnthropicAnswer(std::string model) : model_(std::move(model)), id_(random_id("msg_", 24)) {}

Json AnthropicAnswer::message() const {
  return {{"id", id_},
          {"type", "message"},
          {"role", "assistant"},
          {"model", model_},
          {"content", Json::array()},
          {"stop_reason", nullptr},
          {"stop_sequence", nullptr}};
}

Json AnthropicAnswer::whole(const std::vector<WholeAnswer>& answers) {
  const WholeAnswer& answer = answers.front();
  Json out = message();
  for (const AnswerPart& part : answer.parts) {
    if (part.kind != Kind::kArguments) out["content"].push_back(empty_block(part));
    Json& block = out["content"].back();
    if (part.kind == Kind::kReasoning) block["thinking"] = part.text;
    if (part.kind == Kind::kContent) block["text"] = part.text;
    if (part.kind == Kind::kArguments) block["input"] = input_of(part.text);
  }
  out["stop_reason"] = stop_reason(answer.ending.ended);
  out["stop_sequence"] = stop_sequence(answer.ending);
  out["usage"] = usage(answer.ending.statistics);
  return out;
}

std::string AnthropicAnswer::begin(size_t n_prompt_tokens) {
  Json started = message();
  started["usage"] = usage({.prompt_tokens = static_cast<int64_t>(n_prompt_tokens)});
  return event({{"type", "message_start"}, {"message", std::move(started)}}) + alive();
}

std::string AnthropicAnswer::alive() {
  return event({{"type", "ping"}});
}

std::string AnthropicAnswer::open_block(const AnswerPart& part) {
  std::string out = close_block();
  ++block_;
  open_ = true;
  kind_ = block_kind(part.kind);
  return out +
         event({{"type", "content_block_start"}, {"index", block_}, {"content_block", empty_block(part)}});
}

std::string AnthropicAnswer::close_block() {
  if (!open_) return {};
  open_ = false;
  std::string out;
  // Clients wait for the proof that a thought is the model's own; ours has none.
  if (kind_ == Kind::kReasoning)
    out = event({{"type", "content_block_delta"},
                 {"index", block_},
                 {"delta", {{"type", "signature_delta"}, {"signature", ""}}}});
  return out + event({{"type", "content_block_stop"}, {"index", block_}});
}

std::string AnthropicAnswer::part(size_t, const AnswerPart& part) {
  std::string out;
  if (part.kind == Kind::kCall) return open_block(part);
  if (part.text.empty()) return out;
  if (!open_ || kind_ != block_kind(part.kind)) out = open_block(part);
  Json delta;
  if (part.kind == Kind::kReasoning)
    delta = {{"type", "thinking_delta"}, {"thinking", part.text}};
  else if (part.kind == Kind::kContent)
    delta = {{"type", "text_delta"}, {"text", part.text}};
  else
    delta = {{"type", "input_json_delta"}, {"partial_json", part.text}};
  return out + event({{"type", "content_block_delta"}, {"index", block_}, {"delta", std::move(delta)}});
}

std::string AnthropicAnswer::end(size_t, const Ending&) {
  return close_block();
}

std::string AnthropicAnswer::finish(const std::vector<Ending>& endings) {
  const Ending& ending = endings.front();
  return event({{"type", "message_delta"},
                {"delta",
                 {{"stop_reason", stop_reason(ending.ended)}, {"stop_sequence", stop_sequence(ending)}}},
                {"usage", usage(ending.statistics)}}) +
         event({{"type", "message_stop"}});
}

std::string AnthropicAnswer::failed(const ApiError& error) {
  return event(error.json(ErrorForm::kAnthropic));
}

}  // namespace packmule::api
