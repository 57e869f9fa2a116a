// How fast this machine's memory can be read: the limit that decoding is quoted against.
//
//   packmule_stream_read [GIGABYTES [THREADS]]
//
// Fills memory on huge pages, as weights are kept, then adds up all of it a few times with all threads, in
// pieces taken from one counter as the model's own work is. Prints the median in GB/s.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/thread_pool.h"

namespace {

constexpr int64_t kPieceBytes = 1 << 20;
constexpr int kTurns = 5;

/// Two lines at a time into independent sums: the loads are what takes the time.
uint64_t sum(const std::byte* from, int64_t n_bytes) {
  using Line = uint64_t __attribute__((vector_size(64), aligned(64)));
  Line even{}, odd{};
  const auto* line = reinterpret_cast<const Line*>(from);
  for (int64_t i = 0; i < n_bytes / 64; i += 2) {
    even += line[i];
    odd += line[i + 1];
  }
  even += odd;
  uint64_t total = 0;
  for (int i = 0; i < 8; ++i) total += even[i];
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace packmule;
  const double gigabytes = argc > 1 ? std::atof(argv[1]) : 2;
  const int n_threads = argc > 2 ? std::max(1, std::atoi(argv[2])) : usable_cores();
  const auto n_pieces = static_cast<int64_t>(gigabytes * 1e9) / kPieceBytes;
  if (argc > 3 || n_pieces < 1) {
    fmt::print(stderr, "usage: packmule_stream_read [GIGABYTES [THREADS]]\n");
    return 2;
  }
  const auto memory = AlignedBuffer::allocate(static_cast<size_t>(n_pieces * kPieceBytes), "the test");
  if (!memory) {
    fmt::print(stderr, "packmule_stream_read: {}\n", memory.error().message);
    return 1;
  }
  std::memset(memory->data(), 1, memory->size_bytes());
  ThreadPool pool(n_threads);
  std::atomic<uint64_t> checksum = 0;
  const auto read_all = [&] {
    const auto begin = std::chrono::steady_clock::now();
    pool.run(n_pieces, [&](int64_t piece, int) {
      checksum.fetch_add(sum(memory->data() + piece * kPieceBytes, kPieceBytes), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return static_cast<double>(n_pieces * kPieceBytes) / took.count() * 1e-9;
  };
  read_all();
  std::vector<double> speeds;
  for (int turn = 0; turn < kTurns; ++turn) speeds.push_back(read_all());
  std::sort(speeds.begin(), speeds.end());
  fmt::print("{:.2f} GB/s with {} threads ({:.2f} .. {:.2f}; sum of all words {:x})\n", speeds[kTurns / 2],
             n_threads, speeds.front(), speeds.back(), checksum.load());
  return 0;
}
