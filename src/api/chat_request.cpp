#include "api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/fields.h"
#include "api/messages.h"

namespace packmule::api {
namespace {

bool is_text_only(const Json& v) {
  return v == Json::array({"text"});
}
bool is_auto_or_none(const Json& v) {
  return v == "auto" || v == "none";
}

constexpr Unsupported kUnsupported[] = {
    {"functions", is_empty, "this form is out of date, use 'tools'"},
    {"function_call", is_auto_or_none, "this form is out of date, use 'tool_choice'"},
    {"modalities", is_text_only, "this model writes text only"},
    {"audio", is_empty, "this model writes text only"},
    {"web_search_options", [](const Json&) { return false; }, "web search is not supported"},
    {"continue_final_message", is_false, "continuing a message of the assistant is not supported yet"},
};

/// messages, tools, tool_choice and chat_template_kwargs.
void read_template_input(Fields& fields, const Json& body, ChatRequest& out) {
  const auto take = [&](ApiResult<Json> parsed, Json& into) {
    if (parsed)
      into = std::move(parsed).value();
    else
      fields.fail(std::move(parsed).error());
  };
  if (!body.contains("messages")) fields.fail("messages", "missing");
  if (fields.error()) return;
  take(parse_messages(body["messages"]), out.messages);
  out.tools = nullptr;
  if (const Json* tools = fields.get("tools")) take(parse_tools(*tools), out.tools);
  // A model that is not shown the tools does not call them.
  if (const Json* choice = fields.get("tool_choice"); choice != nullptr && *choice == "none")
    out.tools = nullptr;

  out.kwargs = Json::object();
  bool add_generation_prompt = true;
  fields.read("add_generation_prompt", add_generation_prompt);
  out.kwargs["add_generation_prompt"] = add_generation_prompt;
  // Of the efforts only this one means the same to all templates that can be told whether to think.
  if (const Json* effort = fields.get("reasoning_effort"); effort != nullptr && *effort == "none")
    out.kwargs["enable_thinking"] = false;
  const Json* kwargs = fields.get("chat_template_kwargs");
  if (kwargs == nullptr) return;
  if (!kwargs->is_object())
    return fields.fail("chat_template_kwargs",
                       fmt::format("expected an object, found {}", type_name(*kwargs)));
  for (const char* reserved : {"messages", "tools"})
    if (kwargs->contains(reserved))
      return fields.fail("chat_template_kwargs", fmt::format("'{}' belongs beside it, not in it", reserved));
  out.kwargs.update(*kwargs);
}

/// OpenAI's `logprobs` and `top_logprobs`, and llama-server's `n_probs`, which says the same.
void read_logprobs(Fields& fields, int32_t& n_logprobs) {
  bool wanted = false;
  int32_t n_top = 0, n_probs = 0;
  fields.read("logprobs", wanted);
  fields.read("top_logprobs", n_top, 0, kMaxLogprobs);
  fields.read("n_probs", n_probs, 0, kMaxLogprobs);
  if (n_top > 0 && !wanted) fields.fail("top_logprobs", "is given without 'logprobs': true");
  if (wanted || n_probs > 0) n_logprobs = std::max(n_top, n_probs);
}

}  // namespace

ApiResult<ChatRequest> parse_template_request(const Json& body) {
  ChatRequest out;
  Fields fields(body);
  read_template_input(fields, body, out);
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

ApiResult<ChatRequest> parse_chat_request(const Json& body, const sampling::Params& defaults,
                                          int64_t n_vocab) {
  ChatRequest out;
  out.generation.sampling = defaults;
  Fields fields(body);
  read_template_input(fields, body, out);
  refuse_unsupported(fields, kUnsupported);
  read_output_form(fields, out.tools, out.output);
  refuse_unsupported_samplers(fields);
  read_sampling(fields, out.generation.sampling);
  read_stops(fields, "stop", out.generation.stop);
  read_max_tokens(fields, out.generation.max_tokens);
  read_predict_time(fields, out.generation.max_predict_time);
  read_logit_bias(fields, n_vocab, out.generation.sampling, out.text_bias);
  fields.read("ignore_eos", out.generation.ignore_eos);
  read_stream(fields, out.streaming);
  read_logprobs(fields, out.generation.n_logprobs);
  fields.read("n", out.n, 1, kMaxAnswers);
  fields.read("parallel_tool_calls", out.parallel_tool_calls);
  std::string reasoning_format = "auto";
  fields.read("reasoning_format", reasoning_format, 64);
  if (reasoning_format != "auto" && reasoning_format != "deepseek" && reasoning_format != "none")
    fields.fail("reasoning_format", "expected \"auto\", \"deepseek\" or \"none\"");
  out.split_reasoning = reasoning_format != "none";
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

}  // namespace packmule::api
