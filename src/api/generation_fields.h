// The fields about generating that the bodies of several endpoints share: samplers, stop strings, lengths.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/backend.h"
#include "api/fields.h"
#include "engine/engine.h"

namespace packmule::api {

/// Answers that one request may ask for.
inline constexpr int64_t kMaxAnswers = 64;
/// Likeliest tokens that may be named in each place, as in OpenAI's chat completions.
inline constexpr int64_t kMaxLogprobs = 20;

/// A field that packmule knows but cannot honour, and the values of it that change nothing.
struct Unsupported {
  std::string_view name;
  bool (*harmless)(const Json& value);
  std::string_view reason;
};

[[nodiscard]] inline bool is_false(const Json& v) {
  return v == false;
}
[[nodiscard]] inline bool is_zero(const Json& v) {
  return v == 0;
}
[[nodiscard]] inline bool is_empty(const Json& v) {
  return (v.is_string() && v == "") || ((v.is_array() || v.is_object()) && v.empty());
}

/// Keeps an error with the code "unsupported" for the first that is there and not harmless.
void refuse_unsupported(Fields& fields, std::span<const Unsupported> unsupported);
/// Those samplers of llama-server that packmule does not have.
void refuse_unsupported_samplers(Fields& fields);

void read_sampling(Fields& fields, sampling::Params& params);

/// A string or an array of at most 16 under `name`; empty ones are left out.
void read_stops(Fields& fields, std::string_view name, std::vector<std::string>& stops);

/// n_predict, max_tokens and max_completion_tokens, of which the later wins. 0: the prompt is read, and
/// nothing generated.
void read_max_tokens(Fields& fields, int64_t& max_tokens);
/// llama-server's t_max_predict_ms; 0 and below: no limit.
void read_predict_time(Fields& fields, std::chrono::milliseconds& time);

/// Biases given for a text instead of a token id: for each token of it.
using TextBias = std::vector<std::pair<std::string, float>>;

/// `logit_bias` as an object or pairs, by token id, or by text, which goes to `text_bias`.
void read_logit_bias(Fields& fields, int64_t n_vocab, sampling::Params& params, TextBias& text_bias);

/// Gives each token of the texts its bias.
[[nodiscard]] ApiResult<void> add_text_bias(const Backend& backend, const TextBias& text_bias,
                                            sampling::Params& params);

/// How an answer is streamed.
struct Streaming {
  bool stream = false;
  bool usage = false;     // a last chunk with the usage (stream_options.include_usage)
  bool timings = false;   // llama-server's timings_per_token: figures in every chunk
  bool progress = false;  // llama-server's return_progress: chunks while the prompt is being read
};
void read_stream(Fields& fields, Streaming& out);

/// The same generation `n` times: a seed that was asked for is raised by one each time.
[[nodiscard]] std::vector<engine::Request> repeated(engine::Request request, int64_t n);

/// A 400 if a prompt of so many tokens leaves no room for an answer; `param` is the field it came in.
[[nodiscard]] ApiResult<void> check_length(size_t n_prompt, int64_t n_ctx, std::string_view param);

}  // namespace packmule::api
