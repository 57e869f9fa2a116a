#include "placement/words.h"

#include <fmt/format.h>

#include <vector>

#include "base/utf8.h"

namespace packmule::placement {

std::string layer_words(std::span<const int> layers) {
  if (layers.empty()) return "no layer";
  std::vector<std::string> parts;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    if (end - i >= 3) {
      parts.push_back(fmt::format("{} to {}", layers[i], layers[end - 1]));
    } else {
      for (size_t j = i; j < end; ++j) parts.push_back(std::to_string(layers[j]));
    }
    i = end;
  }
  std::string text = layers.size() == 1 ? "layer " : "layers ";
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

std::string count_words(int64_t n, std::string_view thing) {
  return fmt::format("{} {}{}", n, thing, n == 1 ? "" : "s");
}

std::string gigabytes(int64_t n_bytes) {
  return fmt::format("{:.2f} GB", static_cast<double>(n_bytes) * 1e-9);
}

std::string pattern_words(std::string_view text) {
  constexpr size_t kShownBytes = 160;
  std::string words;
  const std::string escaped = printable(text, kShownBytes);
  for (size_t i = 0; i < escaped.size(); ++i) {
    words += escaped[i];
    if (escaped[i] == '\\' && i + 1 < escaped.size() && escaped[i + 1] == '\\') ++i;
  }
  return words;
}

}  // namespace packmule::placement
