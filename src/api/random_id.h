// Names that are drawn: of answers and of tool calls.
#pragma once

#include <string>
#include <string_view>

namespace packmule::api {

/// `prefix` and so many random letters and digits.
[[nodiscard]] std::string random_id(std::string_view prefix, int n_letters);

}  // namespace packmule::api
