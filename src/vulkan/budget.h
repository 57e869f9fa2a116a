// How much device memory packmule may take: a hard limit, counted to the byte.
//
// Drivers do not refuse what does not fit: they move memory elsewhere, and every token is slow from then on.
// So nothing is allocated that this count does not allow.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace packmule::vulkan {

/// What the user says about a device's memory.
struct MemoryPolicy {
  std::optional<int64_t> limit_bytes;    // --device-memory: at most so much, the reserve included
  std::optional<int64_t> reserve_bytes;  // --reserve: left alone; 10 % of what is free when not given
};

/// Bytes packmule may allocate where `available_bytes` are free: the lesser of these and the limit, less the
/// reserve.
[[nodiscard]] int64_t budget_bytes(int64_t available_bytes, const MemoryPolicy& policy);

class Budget {
 public:
  /// `device` names it in errors ("Vulkan0").
  Budget(std::string device, int64_t total_bytes) : device_(std::move(device)), total_bytes_(total_bytes) {}

  /// Counts `bytes` as taken, or refuses (kOutOfMemory) with the numbers and what to do; then nothing has
  /// changed.
  [[nodiscard]] Status take(std::string_view what, int64_t bytes);
  void give_back(int64_t bytes) { taken_bytes_ -= bytes; }

  [[nodiscard]] int64_t total_bytes() const { return total_bytes_; }
  [[nodiscard]] int64_t taken_bytes() const { return taken_bytes_; }
  [[nodiscard]] int64_t left_bytes() const { return total_bytes_ - taken_bytes_; }

 private:
  std::string device_;
  int64_t total_bytes_;
  int64_t taken_bytes_ = 0;
};

}  // namespace packmule::vulkan
