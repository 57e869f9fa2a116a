// The flags that say where a model goes and what machine it goes to.
//
// Those of llama.cpp have its names and meaning (docs/placement.md). The machine's memory is asked from the
// system, that of a device from its driver. `plan` also imagines devices, by --device-memory. Speeds are
// defaults unless flags give others; measure_machine.h measures them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "calibration/speed_book.h"
#include "placement/machine.h"
#include "placement/placement.h"
#include "placement/rules.h"
#include "vulkan/budget.h"
#include "vulkan/device_info.h"

namespace packmule::cli {

struct PlacementFlags {
  /// -ot, --cpu-moe and --n-cpu-moe, in the order in which they were typed: it decides.
  struct Override {
    enum Kind { kPattern, kCpuMoe, kNCpuMoe } kind = kPattern;
    std::string text;      // of kPattern
    int64_t n_layers = 0;  // of kNCpuMoe
  };
  std::vector<Override> overrides;
  std::optional<int64_t> n_gpu_layers;
  bool kv_on_host = false;
  placement::Streaming streaming;  // --no-op-offload, --op-offload-min-batch

  std::string devices;                       // --device: names, or "none"
  std::vector<int64_t> device_memory_bytes;  // one device each; of a real device the most to use
  std::vector<double> device_gb_s, device_tflops, pcie_gb_s;  // one for all devices, or one each
  std::optional<int64_t> host_memory_bytes;
  std::optional<double> host_gb_s, disk_gb_s;
  calibration::When calibrate = calibration::When::kAuto;  // the caller does it
  std::optional<int64_t> reserve_bytes;
  double reserve_percent = 10;
};

/// What the user says about placement: -ngl, -ot, --cpu-moe, --n-cpu-moe, --no-kv-offload, --op-offload,
/// --op-offload-min-batch, --device, --reserve. Values that are wrong by themselves are errors of the command
/// line.
void add_rule_flags(CLI::App& verb, PlacementFlags& flags);
/// --device-memory, for verbs that use a real device.
void add_device_memory_flag(CLI::App& verb, PlacementFlags& flags);
/// --calibrate; add_machine_flags() has it too.
void add_calibrate_flag(CLI::App& verb, PlacementFlags& flags);
/// The machine that a plan is made for: --device-memory and the like.
void add_machine_flags(CLI::App& verb, PlacementFlags& flags);

/// The real device that the flags name; without a name the first graphics card of its own memory. None where
/// there is no such card, or the name is "none". An error names what there is.
[[nodiscard]] Result<std::optional<vulkan::DeviceInfo>> device_of(const PlacementFlags& flags);

/// What they say about its memory.
[[nodiscard]] vulkan::MemoryPolicy policy_of(const PlacementFlags& flags, const placement::Processor& device);

/// The machine that the flags and the system describe: with `device`, or else those that are imagined. An
/// error names the flag.
[[nodiscard]] Result<placement::Machine> machine_of(const PlacementFlags& flags, int n_threads,
                                                    const std::optional<vulkan::DeviceInfo>& device = {});
[[nodiscard]] Result<placement::Rules> rules_of(const PlacementFlags& flags,
                                                const placement::Machine& machine);

/// "8G", "8GiB", "1.5g", "900M": K, M, G and T are powers of 1024. An error says what is expected.
[[nodiscard]] Result<int64_t> parse_size(std::string_view text);

}  // namespace packmule::cli
