// The planner's host with measured speeds.
#pragma once

#include <string>

#include "base/cpu.h"
#include "base/result.h"
#include "calibration/speed_book.h"
#include "placement/machine.h"

namespace packmule::calibration {

/// Fills in what fill_in() does for `host`. Takes about a quarter of a second for each thing that is
/// measured. `path` is the speed file, "" for none.
[[nodiscard]] Result<Outcome> calibrate_host(const Wanted& wanted, Isa isa, int n_threads, When when,
                                             const std::string& path, placement::Processor& host,
                                             double seconds_each = 0.2);

}  // namespace packmule::calibration
