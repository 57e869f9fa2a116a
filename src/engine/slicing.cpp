#include "engine/slicing.h"

#include <algorithm>
#include <numeric>

namespace packmule::engine {

int64_t slice_end(const Reading& reading, const Cutting& cutting, int64_t room) {
  if (reading.position >= reading.n_prompt)  // drawn before
    return std::min(reading.n_tokens, reading.position + std::min(room, cutting.short_slice));
  int64_t end = std::min(reading.n_prompt, reading.position + room);
  const auto next = std::upper_bound(reading.boundaries.begin(), reading.boundaries.end(), reading.position);
  if (end < reading.n_prompt) {
    const int64_t origin = origin_at(reading, end);
    end = origin + (end - origin) / cutting.grid * cutting.grid;
  }
  if (next != reading.boundaries.end() && *next - reading.position < cutting.look_back)
    end = std::min(end, *next);
  return std::max(end, reading.position);
}

int64_t origin_at(const Reading& reading, int64_t position) {
  const auto behind = std::upper_bound(reading.boundaries.begin(), reading.boundaries.end(), position);
  return behind == reading.boundaries.begin() ? reading.origin : std::max(reading.origin, *(behind - 1));
}

std::vector<int64_t> share(std::span<const Claim> claims, const Cutting& cutting, int64_t room) {
  std::vector<size_t> order(claims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto rest = [&](size_t i) { return claims[i].reading->n_tokens - claims[i].reading->position; };
    return claims[a].served != claims[b].served ? claims[a].served < claims[b].served : rest(a) < rest(b);
  });
  std::vector<int64_t> ends(claims.size());
  int64_t n_left = static_cast<int64_t>(claims.size());
  for (const size_t i : order) {
    const Reading& reading = *claims[i].reading;
    const int64_t part = std::min(room, std::max(cutting.grid, room / n_left));
    ends[i] = slice_end(reading, cutting, part);
    room -= ends[i] - reading.position;
    --n_left;
  }
  return ends;
}

}  // namespace packmule::engine
