// How numbers, layers and patterns are said.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace packmule::placement {

/// "layer 7", "layers 12 to 47", "layers 0, 4 and 8 to 11", "no layer". `layers` ascending, each once. Two
/// neighbours are named one by one, three and more are a range.
[[nodiscard]] std::string layer_words(std::span<const int> layers);

/// "1 tensor", "36 tensors".
[[nodiscard]] std::string count_words(int64_t n, std::string_view thing);

/// "7.73 GB"
[[nodiscard]] std::string gigabytes(int64_t n_bytes);

/// A pattern or a rule fit for one line (base/utf8.h), with single backslashes as they were typed.
[[nodiscard]] std::string pattern_words(std::string_view text);

}  // namespace packmule::placement
