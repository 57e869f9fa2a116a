#include "engine/boundaries.h"

#include <algorithm>

namespace packmule::engine {

std::vector<int64_t> message_boundaries(std::span<const int32_t> prompt, const text::Tokenizer& tokenizer) {
  std::vector<int64_t> positions;
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    if (!tokenizer.is_end_of_generation(prompt[i])) continue;
    const size_t behind = i + (tokenizer.token_bytes(prompt[i + 1]) == "\n" ? 2 : 1);
    if (behind < prompt.size()) positions.push_back(static_cast<int64_t>(behind));
  }
  return positions;
}

std::vector<int64_t> apart(std::span<const int64_t> positions) {
  // From the front, so that prompts with a common beginning keep the same ones in it.
  constexpr int64_t kLeastGap = 4;
  std::vector<int64_t> kept;
  for (const int64_t position : positions)
    if (kept.empty() || position - kept.back() >= kLeastGap) kept.push_back(position);
  return kept;
}

std::vector<int64_t> thin_out(std::span<const int64_t> positions, size_t most) {
  std::vector<int64_t> kept(positions.begin(), positions.end());
  if (kept.size() <= most) return kept;
  if (most == 0) return {};
  // The latest turns are the likeliest to be gone on from; the first message is what conversations share.
  const size_t n_last = std::min(most, most / 2 + 1);
  const std::span<const int64_t> early = positions.first(positions.size() - n_last);
  const size_t n_early = most - n_last;
  for (int64_t gap = 1;; gap *= 2) {
    kept.clear();
    for (const int64_t position : early)
      if (kept.empty() || position - kept.back() >= gap) kept.push_back(position);
    if (kept.size() <= n_early) break;
    if (kept.size() == 1) {  // no room even for the first
      kept.clear();
      break;
    }
  }
  kept.insert(kept.end(), positions.end() - static_cast<std::ptrdiff_t>(n_last), positions.end());
  return kept;
}

}  // namespace packmule::engine
