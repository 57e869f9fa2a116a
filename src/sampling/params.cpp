// Parameters: defaults of the models, and what is a sensible value.
#include <algorithm>
#include <cmath>
#include <string>

#include "sampling/sampler.h"

namespace packmule::sampling {
namespace {

Status check_range(std::string_view flag, float value, float low, float high) {
  if (value >= low && value <= high) return {};  // false for NaN
  return fail(ErrorKind::kInvalidArgument, "{} is {}, expected {} to {}", flag, value, low, high);
}

Status check_finite(std::string_view flag, float value) {
  if (std::isfinite(value)) return {};
  return fail(ErrorKind::kInvalidArgument, "{} is {}, expected a finite number", flag, value);
}

}  // namespace

Params defaults_for_model(std::string_view model_name) {
  std::string lower(model_name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  const bool thinking = lower.find("thinking") != std::string::npos;
  Params params;
  params.temperature = thinking ? 0.6f : 0.7f;
  params.top_k = 20;
  params.top_p = thinking ? 0.95f : 0.8f;
  params.min_p = 0.0f;
  return params;
}

Status validate(const Params& params, int64_t n_vocab) {
  PACKMULE_TRY_STATUS(check_finite("temperature (--temp)", params.temperature));
  PACKMULE_TRY_STATUS(check_range("top_p (--top-p)", params.top_p, 0.0f, 1.0f));
  PACKMULE_TRY_STATUS(check_range("min_p (--min-p)", params.min_p, 0.0f, 1.0f));
  if (params.repeat_last_n < -1)
    return fail(
        ErrorKind::kInvalidArgument,
        "repeat_last_n (--repeat-last-n) is {}, expected -1 (the whole context), 0 (off) or a number of "
        "tokens",
        params.repeat_last_n);
  if (!(params.repeat_penalty > 0.0f) || !std::isfinite(params.repeat_penalty))
    return fail(ErrorKind::kInvalidArgument,
                "repeat_penalty (--repeat-penalty) is {}, expected more than 0 (1 is off)",
                params.repeat_penalty);
  PACKMULE_TRY_STATUS(check_finite("presence_penalty (--presence-penalty)", params.presence_penalty));
  PACKMULE_TRY_STATUS(check_finite("frequency_penalty (--frequency-penalty)", params.frequency_penalty));
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < 0 || id >= n_vocab)
      return fail(ErrorKind::kInvalidArgument,
                  "logit_bias (--logit-bias) names token {}, expected 0 to {} for this model", id,
                  n_vocab - 1);
    if (std::isnan(bias))
      return fail(ErrorKind::kInvalidArgument, "logit_bias (--logit-bias) of token {} is not a number", id);
  }
  return {};
}

}  // namespace packmule::sampling
