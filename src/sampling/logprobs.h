// How likely the model itself found a token, for the `logprobs` of the APIs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace packmule::sampling {

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;  // natural logarithm of its probability, at most 0; -inf: impossible
};

/// Log probabilities by the model's own distribution, the softmax of the logits as they come: before bias,
/// penalties, temperature and the truncating samplers, so that they compare across requests, as OpenAI's and
/// vLLM's do. Ids in `padding` (ascending) stand for no token: they are left out of the distribution, and no
/// list names them.
///
/// `out` becomes the drawn token, then the `n_top` likeliest (fewer if there are fewer), likeliest first, the
/// lowest id on a tie; the drawn one may be among them. NaN counts as -inf, +inf as the largest float.
void log_probabilities(std::span<const float> logits, std::span<const int32_t> padding, int32_t drawn,
                       int32_t n_top, std::vector<TokenLogprob>& out);

}  // namespace packmule::sampling
