// A graphics device of the planner with measured speeds.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "calibration/device_measure.h"
#include "calibration/speed_book.h"
#include "placement/machine.h"

namespace packmule::calibration {

/// Fills in what fill_in() does for `processor`, and link_bytes_s, stream_bytes_s (with so many threads of
/// the host), hop_s and phase_s. Products are measured as models do them, with `integer_products` by these.
/// Takes a quarter of a second for each thing that is measured, most of it for compiling shaders; `path` is
/// the speed file, "" for none.
[[nodiscard]] Result<Outcome> calibrate_device(const Wanted& wanted, std::shared_ptr<vulkan::Device> device,
                                               vulkan::Ops& ops, int n_threads, bool integer_products,
                                               When when, const std::string& path,
                                               placement::Processor& processor,
                                               const DeviceEffort& effort = {});

}  // namespace packmule::calibration
