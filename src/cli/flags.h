// Spellings of flags that the parser does not know.
#pragma once

#include <string>
#include <vector>

namespace packmule::cli {

/// llama.cpp has flags of one dash and several letters, which the parser would take for a one-letter flag
/// with its value ("-ctk" for "-c tk"). Returns the arguments with the long names in their place; what
/// follows "--" stays.
[[nodiscard]] std::vector<std::string> with_long_names(std::vector<std::string> args);

}  // namespace packmule::cli
