#include "base/read_speed.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/aligned.h"

namespace packmule {
namespace {

constexpr int64_t kPieceBytes = 1 << 20;

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

Result<ReadSpeed> measure_read_speed(ThreadPool& pool, int64_t n_bytes, int n_turns) {
  const int64_t n_pieces = std::max<int64_t>(1, n_bytes / kPieceBytes);
  PACKMULE_TRY(const AlignedBuffer memory,
               AlignedBuffer::allocate(static_cast<size_t>(n_pieces * kPieceBytes), "measuring memory"));
  pool.run(n_pieces,
           [&](int64_t piece, int) { std::memset(memory.data() + piece * kPieceBytes, 1, kPieceBytes); });
  std::atomic<uint64_t> checksum = 0;
  const auto read_all = [&] {
    const auto begin = std::chrono::steady_clock::now();
    pool.run(n_pieces, [&](int64_t piece, int) {
      checksum.fetch_add(sum(memory.data() + piece * kPieceBytes, kPieceBytes), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return static_cast<double>(n_pieces * kPieceBytes) / took.count();
  };
  read_all();
  ReadSpeed speed;
  for (int turn = 0; turn < std::max(1, n_turns); ++turn) speed.bytes_per_second.push_back(read_all());
  std::sort(speed.bytes_per_second.begin(), speed.bytes_per_second.end());
  speed.checksum = checksum;
  return speed;
}

}  // namespace packmule
