// Mistakes that people make in patterns for names of tensors, told from the pattern and from what it matches.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "placement/inventory.h"
#include "placement/pattern.h"

namespace packmule::placement {

/// One sentence for each. `matched`: indices of the tensors the pattern is found in, ascending.
[[nodiscard]] std::vector<std::string> pattern_mistakes(const Pattern& pattern, std::span<const int> matched,
                                                        const Inventory& inventory);

}  // namespace packmule::placement
