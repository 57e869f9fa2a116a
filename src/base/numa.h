// What to do with the memory of a machine of several nodes (sockets), each of which has its own.
//
// Left alone unless asked: the system places a page on the node of the thread that first writes it. The names
// are llama.cpp's (--numa). On a machine of one node nothing changes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace packmule {

enum class Numa {
  kLeaveAlone,
  kDistribute,  // memory taken from now on is spread over all nodes page by page, threads run anywhere
  kIsolate,     // threads started from now on run on the node that this one runs on, and so their memory is
                // there
  kNumactl,     // whatever numactl(8) has arranged: the same as kLeaveAlone, said aloud
};

/// "0-3,8" as {0, 1, 2, 3, 8}: how the system lists processors and nodes. Nothing when it is no such list, or
/// one with numbers above 65,535.
[[nodiscard]] std::optional<std::vector<int>> parse_cpu_list(std::string_view text);

/// To be called before threads are started and memory is taken. An error says what the system refused.
/// `nodes_folder` is where it lists its nodes.
[[nodiscard]] Status apply_numa(Numa numa, const std::string& nodes_folder = "/sys/devices/system/node");

}  // namespace packmule
