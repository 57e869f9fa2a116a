// The answer when nothing fits.
#pragma once

#include "base/result.h"
#include "placement/planner.h"

namespace packmule::placement {

/// One line: for each memory that is too small what is needed and what there is, with numbers for `closest`,
/// the placement that comes nearest; and the flags that would make it fit, each found by planning again.
[[nodiscard]] tl::unexpected<Error> refuse(const Request& request, const Placement& closest);

}  // namespace packmule::placement
