#include "sampling/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sampling/portable_exp.h"

namespace packmule::sampling {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

float usable(float logit) {
  return std::isnan(logit) ? kImpossible : std::min(logit, std::numeric_limits<float>::max());
}

}  // namespace

void log_probabilities(std::span<const float> logits, std::span<const int32_t> padding, int32_t drawn,
                       int32_t n_top, std::vector<TokenLogprob>& out) {
  // The logits first, in the place of what is made of them.
  out.assign(1, {drawn, usable(logits[static_cast<size_t>(drawn)])});
  const auto each_token = [&](auto&& see) {
    auto skipped = padding.begin();
    for (size_t i = 0; i < logits.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      while (skipped != padding.end() && *skipped < id) ++skipped;
      if (skipped == padding.end() || *skipped != id) see(id, usable(logits[i]));
    }
  };
  const auto n_wanted = static_cast<size_t>(std::max(n_top, 0));
  float largest = kImpossible;
  each_token([&](int32_t id, float logit) {
    largest = std::max(largest, logit);
    const bool full = out.size() == n_wanted + 1;
    if (n_wanted == 0 || (full && logit <= out.back().logprob)) return;
    if (full) out.pop_back();
    // Behind its equals, which have lower ids.
    const auto place = std::upper_bound(out.begin() + 1, out.end(), logit,
                                        [](float value, const TokenLogprob& t) { return value > t.logprob; });
    out.insert(place, {id, logit});
  });
  double total = 0;
  each_token([&](int32_t, float logit) { total += portable_exp(double{logit} - largest); });
  for (TokenLogprob& token : out)
    token.logprob = token.logprob == kImpossible
                        ? kImpossible
                        : static_cast<float>(double{token.logprob} - largest - std::log(total));
}

}  // namespace packmule::sampling
