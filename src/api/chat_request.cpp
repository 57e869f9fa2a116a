#include "api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "api/fields.h"
#include "api/messages.h"

namespace packmule::api {
namespace {

constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 4096;

/// A field that packmule knows but cannot honour, and the values of it that change nothing.
struct Unsupported {
  std::string_view name;
  bool (*harmless)(const Json& value);
  std::string_view reason;
};

bool is_false(const Json& v) {
  return v == false;
}
bool is_zero(const Json& v) {
  return v == 0;
}
bool is_one(const Json& v) {
  return v == 1;
}
bool is_one_or_more(const Json& v) {
  return v.is_number() && v >= 1;
}
bool is_negative(const Json& v) {
  return v.is_number() && v < 0;
}
bool is_empty(const Json& v) {
  return (v.is_string() && v == "") || ((v.is_array() || v.is_object()) && v.empty());
}
bool is_text_only(const Json& v) {
  return v == Json::array({"text"});
}
bool is_auto_or_none(const Json& v) {
  return v == "auto" || v == "none";
}
bool is_text_format(const Json& v) {
  return v.is_object() && v.value("type", Json()) == "text";
}

constexpr Unsupported kUnsupported[] = {
    {"n", is_one, "one answer per request is supported, send several requests"},
    {"logprobs", is_false, "log probabilities are not supported yet"},
    {"top_logprobs", is_zero, "log probabilities are not supported yet"},
    {"n_probs", is_zero, "log probabilities are not supported yet"},
    {"response_format", is_text_format, "only {\"type\": \"text\"} is supported yet"},
    {"json_schema", is_empty, "constrained output is not supported yet"},
    {"grammar", is_empty, "constrained output is not supported yet"},
    {"tool_choice", is_auto_or_none,
     "only \"auto\" and \"none\" are supported: a model cannot be made to call a tool yet"},
    {"functions", is_empty, "this form is out of date, use 'tools'"},
    {"function_call", is_auto_or_none, "this form is out of date, use 'tool_choice'"},
    {"modalities", is_text_only, "this model writes text only"},
    {"audio", is_empty, "this model writes text only"},
    {"web_search_options", [](const Json&) { return false; }, "web search is not supported"},
    {"continue_final_message", is_false, "continuing a message of the assistant is not supported yet"},
    {"typical_p", is_one_or_more, "this sampler is not supported"},
    {"top_n_sigma", is_negative, "this sampler is not supported"},
    {"xtc_probability", is_zero, "this sampler is not supported"},
    {"dry_multiplier", is_zero, "this sampler is not supported"},
    {"dynatemp_range", is_zero, "this sampler is not supported"},
    {"mirostat", is_zero, "this sampler is not supported"},
};

void refuse_unsupported(Fields& fields) {
  for (const Unsupported& field : kUnsupported)
    if (const Json* value = fields.get(field.name); value != nullptr && !field.harmless(*value))
      fields.fail({.message = fmt::format("'{}': {}", field.name, field.reason),
                   .param = std::string(field.name),
                   .code = "unsupported"});
}

void read_sampling(Fields& fields, sampling::Params& params) {
  constexpr double kMaxPenalty = 100;
  fields.read("temperature", params.temperature, 0, 100);
  fields.read("top_p", params.top_p, 0, 1);
  fields.read("min_p", params.min_p, 0, 1);
  fields.read("top_k", params.top_k, -1, std::numeric_limits<int32_t>::max());
  fields.read("presence_penalty", params.presence_penalty, -kMaxPenalty, kMaxPenalty);
  fields.read("frequency_penalty", params.frequency_penalty, -kMaxPenalty, kMaxPenalty);
  fields.read("repeat_penalty", params.repeat_penalty, 0.01, kMaxPenalty);
  fields.read("repeat_last_n", params.repeat_last_n, -1, std::numeric_limits<int32_t>::max());
  if (fields.get("seed") != nullptr) {
    int64_t seed = 0;
    fields.read("seed", seed, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
    // OpenAI's seeds have 64 bits, the sampler's 32, one of which means "random": only -1 and that one may.
    const auto bits = static_cast<uint64_t>(seed);
    params.seed = seed == -1 ? sampling::kRandomSeed : static_cast<uint32_t>(bits ^ (bits >> 32));
    if (params.seed == sampling::kRandomSeed && seed != -1 && seed != sampling::kRandomSeed) params.seed = 0;
  }
}

void read_stops(Fields& fields, std::vector<std::string>& stops) {
  const Json* value = fields.get("stop");
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > kMaxStops)
    return fields.fail("stop", fmt::format("expected at most {} strings, found {}", kMaxStops, list.size()));
  for (const Json& stop : list) {
    if (!stop.is_string())
      return fields.fail("stop",
                         fmt::format("expected a string or an array of strings, found {}", type_name(stop)));
    const auto& text = stop.get_ref<const std::string&>();
    if (text.size() > kMaxStopBytes)
      return fields.fail(
          "stop", fmt::format("expected strings of at most {} bytes, found {}", kMaxStopBytes, text.size()));
    // Every text contains the empty one: it can only be meant as "none".
    if (!text.empty()) stops.push_back(text);
  }
}

void read_max_tokens(Fields& fields, int64_t& max_tokens) {
  // In the order in which the later wins: llama-server's name, OpenAI's old one, OpenAI's new one.
  for (const char* name : {"n_predict", "max_tokens", "max_completion_tokens"}) {
    fields.read(name, max_tokens, -1, std::numeric_limits<int32_t>::max());
    if (max_tokens == 0) fields.fail(name, "expected at least 1, or -1 for no limit");
  }
}

/// The bias of an entry: a number from -100 to 100 as OpenAI has it, or false for "never" as llama-server
/// does.
std::optional<float> bias_value(const Json& value) {
  if (value == false) return -std::numeric_limits<float>::infinity();
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= -1000 && number <= 1000)) return std::nullopt;
  return static_cast<float>(number);
}

void read_logit_bias(Fields& fields, int64_t n_vocab, ChatRequest& out) {
  const Json* value = fields.get("logit_bias");
  if (value == nullptr) return;
  const auto add = [&](const Json& token, const Json& bias) {
    const auto number = bias_value(bias);
    if (!number)
      return fields.fail("logit_bias", fmt::format("expected a bias from -1000 to 1000, or false, found {}",
                                                   type_name(bias)));
    if (token.is_string()) {
      const auto& text = token.get_ref<const std::string&>();
      int64_t id = 0;
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), id);
      if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
        out.text_bias.emplace_back(text, *number);
        return;
      }
      if (id < 0 || id >= n_vocab)
        return fields.fail("logit_bias",
                           fmt::format("expected token ids from 0 to {}, found {}", n_vocab - 1, id));
      out.generation.sampling.logit_bias.emplace_back(static_cast<int32_t>(id), *number);
      return;
    }
    const auto id = whole_number(token);
    if (!id || *id < 0 || *id >= n_vocab)
      return fields.fail("logit_bias", fmt::format("expected token ids from 0 to {} or texts", n_vocab - 1));
    out.generation.sampling.logit_bias.emplace_back(static_cast<int32_t>(*id), *number);
  };
  if (value->is_object()) {
    for (const auto& [key, bias] : value->items()) add(Json(key), bias);
  } else if (value->is_array()) {
    for (const Json& pair : *value) {
      if (!pair.is_array() || pair.size() != 2)
        return fields.fail("logit_bias", "expected pairs [token, bias]");
      add(pair[0], pair[1]);
    }
  } else {
    fields.fail("logit_bias",
                fmt::format("expected an object or an array of pairs, found {}", type_name(*value)));
  }
}

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
  refuse_unsupported(fields);
  read_sampling(fields, out.generation.sampling);
  read_stops(fields, out.generation.stop);
  read_max_tokens(fields, out.generation.max_tokens);
  read_logit_bias(fields, n_vocab, out);
  fields.read("ignore_eos", out.generation.ignore_eos);
  fields.read("stream", out.stream);
  fields.read("parallel_tool_calls", out.parallel_tool_calls);
  if (const Json* options = fields.get("stream_options")) {
    if (!options->is_object())
      fields.fail("stream_options", fmt::format("expected an object, found {}", type_name(*options)));
    else {
      Fields inner(*options, "stream_options.");
      inner.read("include_usage", out.include_usage);
      if (inner.error()) fields.fail(*inner.error());
    }
  }
  std::string reasoning_format = "auto";
  fields.read("reasoning_format", reasoning_format, 64);
  if (reasoning_format != "auto" && reasoning_format != "deepseek" && reasoning_format != "none")
    fields.fail("reasoning_format", "expected \"auto\", \"deepseek\" or \"none\"");
  out.split_reasoning = reasoning_format != "none";
  if (fields.error()) return tl::unexpected(*fields.error());
  return out;
}

}  // namespace packmule::api
