// How fast this machine's memory can be read: the limit of decoding.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"

namespace packmule {

struct ReadSpeed {
  std::vector<double> bytes_per_second;  // one a turn, ascending
  uint64_t checksum = 0;                 // of all words read; printing it keeps the reads from being left out

  [[nodiscard]] double median() const { return bytes_per_second[bytes_per_second.size() / 2]; }
};

/// Fills memory on huge pages, as weights are kept, then adds up all of it once to warm up and `n_turns`
/// times measured, with all threads of the pool, in pieces taken from one counter as the model's own work is.
/// At least a piece (1 MiB) and one turn. Memory should be some times larger than the caches.
[[nodiscard]] Result<ReadSpeed> measure_read_speed(ThreadPool& pool, int64_t n_bytes, int n_turns);

}  // namespace packmule
