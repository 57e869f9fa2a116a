#include "base/system_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace packmule {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

/// The number after `key` in a file of lines "key number [kB]".
int64_t number_after(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  int64_t value = 0;
  while (file >> word) {
    if (word == key && file >> value) return value;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return kUnknown;
}

int64_t number_in(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kUnknown;  // "max" is no number
}

}  // namespace

int64_t available_memory_bytes() {
  int64_t available = number_after("/proc/meminfo", "MemAvailable:");
  if (available != kUnknown) available *= 1024;
  // cgroup v2; files that the group's processes have read count as its memory but can be given up.
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const int64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit != kUnknown && used != kUnknown) {
    const int64_t cached = number_after("/sys/fs/cgroup/memory.stat", "inactive_file");
    available = std::min(available, std::max<int64_t>(0, limit - used + (cached == kUnknown ? 0 : cached)));
  }
  return available;
}

}  // namespace packmule
