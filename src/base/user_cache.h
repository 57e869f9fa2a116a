// Files that packmule keeps between runs for its own convenience, in the user's cache folder.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule {

/// packmule/NAME in $XDG_CACHE_HOME, or else in .cache in $HOME; "" when neither is set.
[[nodiscard]] std::string user_cache_path(std::string_view name);

/// Makes folders as needed. Readers see the old file or the new one, never a part. `what` names the contents
/// in the error.
[[nodiscard]] Status replace_file(const std::string& path, std::span<const std::byte> data,
                                  std::string_view what);

}  // namespace packmule
