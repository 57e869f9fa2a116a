// How fast this machine's memory can be read: the limit that decoding is quoted against.
//
//   packmule_stream_read FILE [THREADS]
//
// Maps the file, brings it into the page cache, then adds up all of it a few times with all threads, in
// pieces taken from one counter as the model's own work is. Prints the median in GB/s.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/cpu.h"
#include "base/file_map.h"
#include "base/thread_pool.h"

namespace {

constexpr int64_t kPieceBytes = 1 << 20;
constexpr int kTurns = 5;

/// Eight independent sums, which compilers keep in vectors: the loads are what takes the time.
uint64_t sum(const std::byte* from, int64_t n_bytes) {
  uint64_t sums[32] = {};
  for (int64_t at = 0; at + 256 <= n_bytes; at += 256) {
    uint64_t words[32];
    std::memcpy(words, from + at, sizeof words);
    for (int i = 0; i < 32; ++i) sums[i] += words[i];
  }
  uint64_t total = 0;
  for (const uint64_t s : sums) total += s;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace packmule;
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: packmule_stream_read FILE [THREADS]\n");
    return 2;
  }
  const auto map = FileMap::open(argv[1]);
  if (!map) {
    fmt::print(stderr, "packmule_stream_read: {}\n", map.error().message);
    return 1;
  }
  const int n_threads = argc == 3 ? std::max(1, std::atoi(argv[2])) : usable_cores();
  const int64_t n_pieces = static_cast<int64_t>(map->bytes().size()) / kPieceBytes;
  if (n_pieces == 0) {
    fmt::print(stderr, "packmule_stream_read: {}: smaller than {} bytes\n", argv[1], kPieceBytes);
    return 1;
  }
  ThreadPool pool(n_threads);
  std::atomic<uint64_t> checksum = 0;
  const auto read_all = [&] {
    const auto begin = std::chrono::steady_clock::now();
    pool.run(n_pieces, [&](int64_t piece, int) {
      checksum.fetch_add(sum(map->bytes().data() + piece * kPieceBytes, kPieceBytes),
                         std::memory_order_relaxed);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return static_cast<double>(n_pieces * kPieceBytes) / took.count() * 1e-9;
  };
  read_all();  // page faults and the disk
  std::vector<double> speeds;
  for (int turn = 0; turn < kTurns; ++turn) speeds.push_back(read_all());
  std::sort(speeds.begin(), speeds.end());
  fmt::print("{:.2f} GB/s with {} threads ({:.2f} .. {:.2f}; sum of all words {:x})\n", speeds[kTurns / 2],
             n_threads, speeds.front(), speeds.back(), checksum.load());
  return 0;
}
