// What there is to place on: the host and its graphics devices, as plain numbers.
//
// Whoever calls the planner fills these in: from the system, from a measurement, or from flags that imagine a
// machine. Speeds are what a kernel of packmule reaches, not what a data sheet promises, so a measured value
// replaces a default without another factor.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quant/format.h"

namespace packmule::placement {

/// Where a tensor lives and who computes with it: 0 is the host, 1 and on are the devices.
using Where = int;
inline constexpr Where kHost = 0;
inline constexpr size_t kMaxProcessors = 9;  // the host and eight devices

struct Processor {
  std::string name;                // "CPU", "GPU0"
  std::string other_name;          // "Vulkan0": means the same in a rule; may be empty
  std::string words;               // "imagined device", "NVIDIA GeForce RTX 3060"
  int64_t total_bytes = 0;         // of memory
  int64_t free_bytes = 0;          // that could be taken now
  int64_t reserve_bytes = 0;       // of those, left alone
  int64_t max_tensor_bytes = 0;    // largest single allocation; 0: no limit
  double read_bytes_s = 0;         // weights read from its memory while decoding
  double multiply_add_s = 0;       // products of a prompt, one multiplication and addition each
  double link_bytes_s = 0;         // to the host's memory, one way; not used for the host
  double stream_bytes_s = 0;       // of weights on their way through a ring (cost.h); 0: calculated
  double hop_s = 0;                // until work handed over has started, or its result has been seen
  double phase_s = 0;              // fixed cost of one fused phase of a layer
  double cache_factor_16 = 1;      // of read_bytes_s that attention reaches on a cache of plain floats
  double cache_factor_blocks = 1;  // on one of block formats
  /// Of read_bytes_s that is reached with weights of a format, by type id.
  std::array<float, quant::kTypeIdLimit> format_factor = filled(1.0f);

  /// Of multiply_add_s, likewise.
  std::array<float, quant::kTypeIdLimit> product_factor = filled(1.0f);

  [[nodiscard]] int64_t budget_bytes() const {
    return free_bytes > reserve_bytes ? free_bytes - reserve_bytes : 0;
  }
  [[nodiscard]] static constexpr std::array<float, quant::kTypeIdLimit> filled(float value) {
    std::array<float, quant::kTypeIdLimit> all{};
    all.fill(value);
    return all;
  }
};

struct Machine {
  std::vector<Processor> processors;  // the host first
  double disk_bytes_s = 0;            // weights that memory has no room for

  [[nodiscard]] const Processor& host() const { return processors[kHost]; }
  [[nodiscard]] int n_devices() const { return static_cast<int>(processors.size()) - 1; }
  [[nodiscard]] const Processor& at(Where where) const { return processors[static_cast<size_t>(where)]; }
  /// By either name, in any case; -1 when there is none.
  [[nodiscard]] Where find(std::string_view name) const;
  /// "CPU, GPU0 (Vulkan0)"
  [[nodiscard]] std::string names() const;
};

/// A host whose speeds nobody has measured. `wide_vectors`: AVX-512. Sources of the numbers: machine.cpp.
[[nodiscard]] Processor default_host(int n_threads, bool wide_vectors);
/// A graphics device whose speeds nobody has measured, "GPU<number>".
[[nodiscard]] Processor default_device(int number, int64_t memory_bytes);
inline constexpr double kDefaultDiskBytesS = 2e9;

}  // namespace packmule::placement
