// Measured speeds for the planner's machine: of this processor, and of a graphics device that is open.
#pragma once

#include "base/cpu.h"
#include "cli/placement_flags.h"
#include "engine/options.h"
#include "model/hparams.h"
#include "placement/inventory.h"
#include "runtime/gpu.h"

namespace packmule::cli {

struct MeasuredMachine {
  calibration::Outcome host, device;
};

/// Puts them in the place of defaults; a speed that a flag gives stays. `gpu` is the machine's first device,
/// null for none. A processor that poses as a device is measured with --calibrate always only: nobody would
/// wait for it. What cannot be measured or kept keeps its default, and a warning says so.
[[nodiscard]] MeasuredMachine measure_machine(const PlacementFlags& flags, const model::Hparams& hparams,
                                              const engine::EngineOptions& options, Isa isa,
                                              const placement::Inventory& inventory, const runtime::Gpu* gpu,
                                              placement::Machine& machine);

}  // namespace packmule::cli
