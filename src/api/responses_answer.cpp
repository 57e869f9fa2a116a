#include "api/responses_answer.h"

#include "api/json_text.h"
#include "api/openai_json.h"
#include "api/random_id.h"

namespace packmule::api {
namespace {

using Kind = AnswerPart::Kind;

/// Arguments are part of their call.
Kind item_kind(Kind part) {
  return part == Kind::kArguments ? Kind::kCall : part;
}

Json text_part(Kind kind, std::string text) {
  if (kind == Kind::kReasoning) return {{"type", "reasoning_text"}, {"text", std::move(text)}};
  return {{"type", "output_text"},
          {"text", std::move(text)},
          {"annotations", Json::array()},
          {"logprobs", Json::array()}};
}

Json usage(const Ending& ending) {
  const engine::Statistics& s = ending.statistics;
  return {{"input_tokens", s.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", s.cached_tokens}}},
          {"output_tokens", s.generated_tokens},
          {"output_tokens_details", {{"reasoning_tokens", ending.reasoning_tokens}}},
          {"total_tokens", s.prompt_tokens + s.generated_tokens}};
}

}  // namespace

ResponsesAnswer::ResponsesAnswer(const Backend& backend, const Json& request)
    : backend_(backend), id_(random_id("resp_", 32)), created_(seconds_now()), tools_(request) {
  repeated_ = {{"instructions", nullptr},
               {"max_output_tokens", nullptr},
               {"metadata", Json::object()},
               {"parallel_tool_calls", true},
               {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
               {"temperature", nullptr},
               {"text", {{"format", {{"type", "text"}}}}},
               {"tool_choice", "auto"},
               {"tools", Json::array()},
               {"top_p", nullptr}};
  for (auto& [name, value] : repeated_.items())
    if (const auto asked = request.find(name); asked != request.end() && !asked->is_null()) value = *asked;
}

Json ResponsesAnswer::response() const {
  Json out = {{"id", id_},
              {"object", "response"},
              {"created_at", created_},
              {"status", "in_progress"},
              {"background", false},
              {"error", nullptr},
              {"incomplete_details", nullptr},
              {"model", backend_.info().name},
              {"output", output_},
              {"previous_response_id", nullptr},
              {"store", false},
              {"truncation", "disabled"},
              {"usage", nullptr}};
  out.update(repeated_);
  return out;
}

void ResponsesAnswer::complete(const Ending& ending, Json& response) const {
  const bool cut = ending.ended == Ended::kLength;
  response["status"] = cut ? "incomplete" : "completed";
  if (cut) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
  response["usage"] = usage(ending);
}

// ---- the items of the output ----

void ResponsesAnswer::begin_item(const AnswerPart& part) {
  kind_ = item_kind(part.kind);
  switch (kind_) {
    case Kind::kReasoning:
      output_.push_back({{"id", random_id("rs_", 24)},
                         {"type", "reasoning"},
                         {"summary", Json::array()},
                         {"content", Json::array()},
                         {"encrypted_content", nullptr},
                         {"status", "in_progress"}});
      break;
    case Kind::kContent:
      output_.push_back({{"id", random_id("msg_", 24)},
                         {"type", "message"},
                         {"status", "in_progress"},
                         {"role", "assistant"},
                         {"content", Json::array()}});
      break;
    default:
      output_.push_back({{"id", random_id("fc_", 24)},
                         {"type", "function_call"},
                         {"status", "in_progress"},
                         {"call_id", part.id},
                         {"arguments", ""}});
      output_.back().update(tools_.names(part.text));
      break;
  }
}

void ResponsesAnswer::extend_item(const AnswerPart& part) {
  Json& item = output_.back();
  if (kind_ == Kind::kCall) {
    item["arguments"].get_ref<std::string&>() += part.text;
    return;
  }
  if (item["content"].empty()) item["content"].push_back(text_part(kind_, ""));
  Json& content = item["content"][0];
  content["text"].get_ref<std::string&>() += part.text;
  if (kind_ == Kind::kContent)
    for (Json& token : logprobs_json(backend_, part.tokens)) content["logprobs"].push_back(std::move(token));
}

/// What a part without text is for: tokens behind the last text, which belong to it if it is still open.
bool ResponsesAnswer::says_nothing(const AnswerPart& part) const {
  const bool belongs = !output_.empty() && kind_ == Kind::kContent && part.kind == Kind::kContent;
  return part.kind != Kind::kCall && part.text.empty() && !(belongs && !part.tokens.empty());
}

Json ResponsesAnswer::whole(const std::vector<WholeAnswer>& answers) {
  const WholeAnswer& answer = answers.front();
  for (const AnswerPart& part : answer.parts) {
    if (says_nothing(part)) continue;
    if (part.kind != Kind::kArguments) begin_item(part);
    if (part.kind != Kind::kCall) extend_item(part);
  }
  for (Json& item : output_) item["status"] = "completed";
  if (answer.ending.ended == Ended::kLength && !output_.empty()) output_.back()["status"] = "incomplete";
  Json out = response();
  complete(answer.ending, out);
  return out;
}

// ---- the stream ----

std::string ResponsesAnswer::event(std::string_view type, Json fields) {
  Json out = {{"type", type}, {"sequence_number", n_events_++}};
  out.update(fields);
  return sse_event(type, out);
}

std::string ResponsesAnswer::item_event(std::string_view type, Json fields) {
  Json all = {{"item_id", output_.back()["id"]}, {"output_index", output_.size() - 1}};
  if (kind_ != Kind::kCall) all["content_index"] = 0;
  all.update(fields);
  return event(type, std::move(all));
}

std::string ResponsesAnswer::begin(size_t) {
  std::string out = event("response.created", {{"response", response()}});
  return out += event("response.in_progress", {{"response", response()}});
}

std::string ResponsesAnswer::open_item(const AnswerPart& part) {
  std::string out = close_item();
  begin_item(part);
  open_ = true;
  out +=
      event("response.output_item.added", {{"output_index", output_.size() - 1}, {"item", output_.back()}});
  if (kind_ != Kind::kCall)
    out += item_event("response.content_part.added", {{"part", text_part(kind_, "")}});
  return out;
}

std::string ResponsesAnswer::close_item() {
  if (!open_) return {};
  open_ = false;
  Json& item = output_.back();
  item["status"] = cut_ ? "incomplete" : "completed";
  std::string out;
  if (kind_ == Kind::kCall) {
    out = item_event("response.function_call_arguments.done",
                     {{"name", item["name"]}, {"arguments", item["arguments"]}});
  } else {
    const Json part = item["content"][0];
    Json done = {{"text", part["text"]}};
    if (kind_ == Kind::kContent) done["logprobs"] = part["logprobs"];
    out = item_event(kind_ == Kind::kContent ? "response.output_text.done" : "response.reasoning_text.done",
                     std::move(done));
    out += item_event("response.content_part.done", {{"part", part}});
  }
  return out + event("response.output_item.done", {{"output_index", output_.size() - 1}, {"item", item}});
}

std::string ResponsesAnswer::part(size_t, const AnswerPart& part) {
  if (part.kind == Kind::kCall) return open_item(part);
  if (says_nothing(part) || (part.text.empty() && !open_)) return {};
  std::string out;
  if (!open_ || kind_ != item_kind(part.kind)) out = open_item(part);
  extend_item(part);
  Json delta = {{"delta", part.text}};
  if (part.kind == Kind::kContent) delta["logprobs"] = logprobs_json(backend_, part.tokens);
  const char* type = part.kind == Kind::kContent     ? "response.output_text.delta"
                     : part.kind == Kind::kReasoning ? "response.reasoning_text.delta"
                                                     : "response.function_call_arguments.delta";
  return out + item_event(type, std::move(delta));
}

std::string ResponsesAnswer::end(size_t, const Ending& ending) {
  cut_ = ending.ended == Ended::kLength;
  return close_item();
}

std::string ResponsesAnswer::finish(const std::vector<Ending>& endings) {
  Json out = response();
  complete(endings.front(), out);
  const bool cut = endings.front().ended == Ended::kLength;
  return event(cut ? "response.incomplete" : "response.completed", {{"response", std::move(out)}});
}

std::string ResponsesAnswer::failed(const ApiError& error) {
  Json out = response();
  out["status"] = "failed";
  out["error"] = {{"code", "server_error"}, {"message", error.message}};
  return event("response.failed", {{"response", std::move(out)}});
}

}  // namespace packmule::api
