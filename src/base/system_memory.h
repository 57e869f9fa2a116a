// How much memory this process may still take.
#pragma once

#include <cstdint>

namespace packmule {

/// Bytes that can be allocated and used without swapping: what the system calls available (free memory and
/// caches it can give up), or what is left of the cgroup's limit if that is less. INT64_MAX when neither is
/// known.
[[nodiscard]] int64_t available_memory_bytes();

}  // namespace packmule
