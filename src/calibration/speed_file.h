// Measured speeds, kept between runs: one JSON file, by processor, kind of kernels and number of threads.
//
//   {"revision": 2, "machines": [{"processor": "...", "kernels": "avx512", "threads": 8, "speeds": {"decode
//   Q4_K strips": 4.1e10}}]}
//
// The file is a convenience: one that is damaged, of another revision or not there counts as empty, and that
// it cannot be written is worth a warning, not an error.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace packmule::calibration {

/// Raised when kernels have become so much faster that older measurements mislead.
inline constexpr int kRevision = 2;

struct MachineKey {
  std::string processor;  // cpu_model_name(), or a device and its driver
  std::string kernels;    // isa_name(), or "vulkan"
  int threads = 0;        // 0 for a device
  bool operator==(const MachineKey&) const = default;
};

using Speeds = std::map<std::string, double>;  // what was measured -> a number above 0 a second

/// packmule/speeds.json in $XDG_CACHE_HOME, or else in .cache in $HOME; "" when neither is set.
[[nodiscard]] std::string default_speed_file();

/// What the file knows of this machine.
[[nodiscard]] Speeds load_speeds(const std::string& path, const MachineKey& key);
/// Puts `speeds` in the place of what the file knew of this machine; other machines stay. Folders are made as
/// needed, and the file is replaced as a whole.
[[nodiscard]] Status save_speeds(const std::string& path, const MachineKey& key, const Speeds& speeds);

}  // namespace packmule::calibration
