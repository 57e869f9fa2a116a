// How fast this machine's memory can be read: the limit that decoding is quoted against.
//
//   packmule_stream_read [GIGABYTES [THREADS]]
//
// Prints the median of a few turns in GB/s; base/read_speed.h says what a turn is.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "base/cpu.h"
#include "base/read_speed.h"

namespace {

constexpr int kTurns = 5;

}  // namespace

int main(int argc, char** argv) {
  using namespace packmule;
  const double gigabytes = argc > 1 ? std::atof(argv[1]) : 2;
  const int n_threads = argc > 2 ? std::max(1, std::atoi(argv[2])) : usable_cores();
  if (argc > 3 || !(gigabytes >= 1e-3)) {
    fmt::print(stderr, "usage: packmule_stream_read [GIGABYTES [THREADS]]\n");
    return 2;
  }
  ThreadPool pool(n_threads);
  const auto speed = measure_read_speed(pool, static_cast<int64_t>(gigabytes * 1e9), kTurns);
  if (!speed) {
    fmt::print(stderr, "packmule_stream_read: {}\n", speed.error().message);
    return 1;
  }
  fmt::print("{:.2f} GB/s with {} threads ({:.2f} .. {:.2f}; sum of all words {:x})\n",
             speed->median() * 1e-9, n_threads, speed->bytes_per_second.front() * 1e-9,
             speed->bytes_per_second.back() * 1e-9, speed->checksum);
  return 0;
}
