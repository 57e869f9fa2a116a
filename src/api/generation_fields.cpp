#include "api/generation_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

namespace packmule::api {
namespace {

constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 4096;

bool is_one_or_more(const Json& v) {
  return v.is_number() && v >= 1;
}
bool is_negative(const Json& v) {
  return v.is_number() && v < 0;
}

constexpr Unsupported kUnsupportedSamplers[] = {
    {"typical_p", is_one_or_more, "this sampler is not supported"},
    {"top_n_sigma", is_negative, "this sampler is not supported"},
    {"xtc_probability", is_zero, "this sampler is not supported"},
    {"dry_multiplier", is_zero, "this sampler is not supported"},
    {"dynatemp_range", is_zero, "this sampler is not supported"},
    {"mirostat", is_zero, "this sampler is not supported"},
};

/// The bias of an entry: a number from -100 to 100 as OpenAI has it, or false for "never" as llama-server
/// does.
std::optional<float> bias_value(const Json& value) {
  if (value == false) return -std::numeric_limits<float>::infinity();
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= -1000 && number <= 1000)) return std::nullopt;
  return static_cast<float>(number);
}

}  // namespace

void refuse_unsupported(Fields& fields, std::span<const Unsupported> unsupported) {
  for (const Unsupported& field : unsupported)
    if (const Json* value = fields.get(field.name); value != nullptr && !field.harmless(*value))
      fields.fail({.message = fmt::format("'{}': {}", field.name, field.reason),
                   .param = std::string(field.name),
                   .code = "unsupported"});
}

void refuse_unsupported_samplers(Fields& fields) {
  refuse_unsupported(fields, kUnsupportedSamplers);
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

void read_stops(Fields& fields, std::string_view name, std::vector<std::string>& stops) {
  const Json* value = fields.get(name);
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > kMaxStops)
    return fields.fail(name, fmt::format("expected at most {} strings, found {}", kMaxStops, list.size()));
  for (const Json& stop : list) {
    if (!stop.is_string())
      return fields.fail(name,
                         fmt::format("expected a string or an array of strings, found {}", type_name(stop)));
    const auto& text = stop.get_ref<const std::string&>();
    if (text.size() > kMaxStopBytes)
      return fields.fail(
          name, fmt::format("expected strings of at most {} bytes, found {}", kMaxStopBytes, text.size()));
    // Every text contains the empty one: it can only be meant as "none".
    if (!text.empty()) stops.push_back(text);
  }
}

void read_max_tokens(Fields& fields, int64_t& max_tokens) {
  // In the order in which the later wins: llama-server's name, OpenAI's old one, OpenAI's new one.
  for (const char* name : {"n_predict", "max_tokens", "max_completion_tokens"}) {
    fields.read(name, max_tokens, -1, std::numeric_limits<int32_t>::max());
  }
}

void read_predict_time(Fields& fields, std::chrono::milliseconds& time) {
  int64_t ms = -1;
  fields.read("t_max_predict_ms", ms, std::numeric_limits<int32_t>::min(),
              std::numeric_limits<int32_t>::max());
  time = std::chrono::milliseconds(std::max<int64_t>(ms, 0));
}

void read_logit_bias(Fields& fields, int64_t n_vocab, sampling::Params& params, TextBias& text_bias) {
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
        text_bias.emplace_back(text, *number);
        return;
      }
      if (id < 0 || id >= n_vocab)
        return fields.fail("logit_bias",
                           fmt::format("expected token ids from 0 to {}, found {}", n_vocab - 1, id));
      params.logit_bias.emplace_back(static_cast<int32_t>(id), *number);
      return;
    }
    const auto id = whole_number(token);
    if (!id || *id < 0 || *id >= n_vocab)
      return fields.fail("logit_bias", fmt::format("expected token ids from 0 to {} or texts", n_vocab - 1));
    params.logit_bias.emplace_back(static_cast<int32_t>(*id), *number);
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

ApiResult<void> add_text_bias(const Backend& backend, const TextBias& text_bias, sampling::Params& params) {
  for (const auto& [text, bias] : text_bias) {
    const auto biased = backend.tokenize(text, text::ParseSpecial::kNone, {});
    if (!biased) return tl::unexpected(bad_field("logit_bias", biased.error().message));
    for (const int32_t token : *biased) params.logit_bias.emplace_back(token, bias);
  }
  return {};
}

void read_stream(Fields& fields, Streaming& out) {
  fields.read("stream", out.stream);
  fields.read("timings_per_token", out.timings);
  fields.read("return_progress", out.progress);
  const Json* options = fields.get("stream_options");
  if (options == nullptr) return;
  if (!options->is_object())
    return fields.fail("stream_options", fmt::format("expected an object, found {}", type_name(*options)));
  Fields inner(*options, "stream_options.");
  inner.read("include_usage", out.usage);
  if (inner.error()) fields.fail(*inner.error());
}

std::vector<engine::Request> repeated(engine::Request request, int64_t n) {
  std::vector<engine::Request> out;
  for (int64_t i = 1; i < n; ++i) {
    out.push_back(request);
    if (request.sampling.seed == sampling::kRandomSeed) continue;
    ++request.sampling.seed;
    if (request.sampling.seed == sampling::kRandomSeed) request.sampling.seed = 0;
  }
  out.push_back(std::move(request));
  return out;
}

ApiResult<void> check_length(size_t n_prompt, int64_t n_ctx, std::string_view param) {
  if (static_cast<int64_t>(n_prompt) < n_ctx) return {};
  return tl::unexpected(ApiError{
      .status = 400,
      .type = "exceed_context_size_error",
      .message =
          fmt::format("the prompt has {} tokens, the context holds {} and needs room for an answer: shorten "
                      "the conversation or start the server with a larger --ctx-size",
                      n_prompt, n_ctx),
      .param = std::string(param),
      .code = "context_length_exceeded",
      .details = {{"n_prompt_tokens", n_prompt}, {"n_ctx", n_ctx}}});
}

}  // namespace packmule::api
