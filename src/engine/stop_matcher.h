// Finding stop strings in a text that arrives in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace packmule::engine {

/// Passes text on as soon as it cannot become part of a stop string. The stop string that is complete first
/// wins, whatever the pieces; of several that end at the same byte, the longest.
class StopMatcher {
 public:
  /// Empty strings are ignored.
  explicit StopMatcher(const std::vector<std::string>& stops);

  /// The text that became certain. After a match: what stands before it, then nothing more.
  [[nodiscard]] std::string push(std::string_view text);
  /// What was held back, when no more text comes.
  [[nodiscard]] std::string finish();
  /// The stop string that was met, or "".
  [[nodiscard]] const std::string& met() const { return met_; }

 private:
  /// Knuth, Morris and Pratt: how much of the string the text so far ends with, in constant time a byte.
  struct Stop {
    std::string text;
    std::vector<size_t> fallback;  // [i]: length of the longest proper border of the first i + 1 bytes
    size_t matched = 0;            // bytes of `text` that the text so far ends with
  };
  std::vector<Stop> stops_;
  std::string held_;  // ends with the longest beginning of a stop string that the text ends with
  std::string met_;
};

}  // namespace packmule::engine
