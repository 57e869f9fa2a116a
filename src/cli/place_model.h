// Where a model goes before it is loaded: the flags, the device there is, and the planner's answer.
#pragma once

#include <functional>
#include <string>

#include "cli/placement_flags.h"
#include "engine/options.h"

namespace packmule::cli {

/// Errors among the flags, as errors of the command line; the file is not needed for that. Devices are asked
/// for only if a flag means one.
void check_rules(const PlacementFlags& flags);

/// Fills in `options.placement` (null when everything is on the CPU), and what it depends on and was left
/// open, such as the ubatch size. Returns a line for the log, which may be empty: device, driver, bytes by
/// tier, or why rules have no effect. An error (kOutOfMemory) when it does not fit: numbers, and flags that
/// would help. Nothing has been loaded by then. `warn` is told what goes wrong with the device's memory later
/// (model/placement.h).
[[nodiscard]] Result<std::string> place_model(const PlacementFlags& flags, engine::EngineOptions& options,
                                              std::function<void(const std::string&)> warn = {});

}  // namespace packmule::cli
