// The pipeline cache on disk: what a driver compiled, so that the next start need not.
//
// Drivers are not safe from damaged data, so the file carries a checksum of its own in front of the driver's
// bytes:
//   8 bytes "PMVKPC1\0" | 16 bytes pipelineCacheUUID | u64 size | u64 checksum (FNV-1a) | data
// Whatever is not exactly that is no cache: packmule then compiles, and writes a new file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace packmule::vulkan {

using CacheUuid = std::array<uint8_t, 16>;

/// $XDG_CACHE_HOME/packmule or ~/.cache/packmule, and a name made of the UUID, which drivers change with
/// every version and device; "" when neither variable is set.
[[nodiscard]] std::string cache_file_path(const CacheUuid& uuid);

/// The driver's data; empty when the file is missing, damaged or of another device.
[[nodiscard]] std::vector<std::byte> read_cache_file(const std::string& path, const CacheUuid& uuid);

/// Makes the folder if needed. Readers see the old file or the new one, never a part.
[[nodiscard]] Status write_cache_file(const std::string& path, const CacheUuid& uuid,
                                      std::span<const std::byte> data);

}  // namespace packmule::vulkan
