#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace packmule::engine {
namespace {

/// The matched length after one more byte.
size_t step(const std::string& text, const std::vector<size_t>& fallback, size_t matched, char byte) {
  while (matched > 0 && (matched == text.size() || text[matched] != byte)) matched = fallback[matched - 1];
  return text[matched] == byte ? matched + 1 : 0;
}

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& text : stops) {
    if (text.empty()) continue;
    Stop stop{text, {0}, 0};
    for (size_t i = 1; i < text.size(); ++i)
      stop.fallback.push_back(step(text, stop.fallback, stop.fallback[i - 1], text[i]));
    stops_.push_back(std::move(stop));
  }
}

std::string StopMatcher::push(std::string_view text) {
  if (!met_.empty()) return {};
  for (const char byte : text) {
    held_ += byte;
    for (Stop& stop : stops_) {
      stop.matched = step(stop.text, stop.fallback, stop.matched, byte);
      if (stop.matched == stop.text.size() && stop.text.size() > met_.size()) met_ = stop.text;
    }
    if (met_.empty()) continue;
    held_.resize(held_.size() - met_.size());
    return std::exchange(held_, {});
  }
  size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.matched);
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace packmule::engine
