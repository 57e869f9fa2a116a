#include "base/numa.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

namespace packmule {
namespace {

std::optional<std::vector<int>> read_list(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return parse_cpu_list(line);
}

Status spread_memory(const std::vector<int>& nodes) {
  constexpr size_t kBits = 8 * sizeof(unsigned long);
  std::vector<unsigned long> mask(static_cast<size_t>(nodes.back()) / kBits + 1);
  for (const int node : nodes)
    mask[static_cast<size_t>(node) / kBits] |= 1ul << static_cast<size_t>(node) % kBits;
  // The kernel takes one bit less than it is told.
  if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask.data(), mask.size() * kBits + 1) == 0) return {};
  return fail(ErrorKind::kUnsupported,
              "--numa distribute: the system refused to spread memory over {} nodes ({}); leave the flag out",
              nodes.size(), std::strerror(errno));
}

Status stay_on_own_node(const std::vector<int>& nodes, const std::string& nodes_folder) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int here = sched_getcpu();
  if (here < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return fail(ErrorKind::kUnsupported,
                "--numa isolate: the system does not say where this thread runs ({})", std::strerror(errno));
  for (const int node : nodes) {
    const auto cpus = read_list(nodes_folder + "/node" + std::to_string(node) + "/cpulist");
    if (!cpus || std::find(cpus->begin(), cpus->end(), here) == cpus->end()) continue;
    cpu_set_t own;
    CPU_ZERO(&own);
    for (const int cpu : *cpus)
      if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &own);
    if (sched_setaffinity(0, sizeof own, &own) == 0) return {};
    return fail(ErrorKind::kUnsupported, "--numa isolate: the system refused to keep threads on node {} ({})",
                node, std::strerror(errno));
  }
  return fail(ErrorKind::kUnsupported, "--numa isolate: {} lists no node with processor {}", nodes_folder,
              here);
}

}  // namespace

std::optional<std::vector<int>> parse_cpu_list(std::string_view text) {
  constexpr int kMost = 65535;
  std::vector<int> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    int first = 0;
    auto [after, error] = std::from_chars(at, end, first);
    if (error != std::errc()) return std::nullopt;
    int last = first;
    if (after != end && *after == '-') {
      const auto [after_last, error_last] = std::from_chars(after + 1, end, last);
      if (error_last != std::errc()) return std::nullopt;
      after = after_last;
    }
    if (first < 0 || last < first || last > kMost) return std::nullopt;
    for (int i = first; i <= last; ++i) numbers.push_back(i);
    if (after == end) break;
    if (*after != ',') return std::nullopt;
    at = after + 1;
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

Status apply_numa(Numa numa, const std::string& nodes_folder) {
  if (numa == Numa::kLeaveAlone || numa == Numa::kNumactl) return {};
  const auto nodes = read_list(nodes_folder + "/has_memory");
  if (!nodes || nodes->size() < 2) return {};
  return numa == Numa::kDistribute ? spread_memory(*nodes) : stay_on_own_node(*nodes, nodes_folder);
}

}  // namespace packmule
