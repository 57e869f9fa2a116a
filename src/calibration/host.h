// The planner's host with measured speeds.
#pragma once

#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/result.h"
#include "calibration/measure.h"
#include "placement/machine.h"

namespace packmule::calibration {

/// What a plan depends on.
struct Wanted {
  std::vector<quant::Type> weights;  // formats in use, the one with most bytes first
  bool repacked = true;              // strips where a format has them
  AttentionShape attention;
};

enum class When {
  kAuto,    // what the file does not know
  kAlways,  // everything anew
  kNever,   // nothing, and the file is not read
};

struct Outcome {
  int n_measured = 0;   // now
  int n_known = 0;      // from the file
  std::string warning;  // the file could not be written; or ""
};

/// Fills in read_bytes_s, format_factor, multiply_add_s and the cache factors of `host`; what is not wanted
/// keeps its default. Takes about a quarter of a second for each thing that is measured. `path` is the speed
/// file,
/// "" for none.
[[nodiscard]] Result<Outcome> calibrate_host(const Wanted& wanted, Isa isa, int n_threads, When when,
                                             const std::string& path, placement::Processor& host,
                                             double seconds_each = 0.2);

}  // namespace packmule::calibration
