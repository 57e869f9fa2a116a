// A checksum of bytes: XXH64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md). Fast enough to be read
// along with a file; it finds damage, not malice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace packmule {

/// The same on every machine of the same byte order. Chain pieces by giving the sum of one as the seed of the
/// next.
[[nodiscard]] uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed = 0);

/// Of the bytes of numbers.
template <class T>
[[nodiscard]] uint64_t checksum_of(std::span<const T> values, uint64_t seed = 0) {
  return checksum(std::as_bytes(values), seed);
}

}  // namespace packmule
