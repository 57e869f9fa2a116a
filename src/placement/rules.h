// What the user says about placement, and which tensors it concerns.
//
// The meaning is llama.cpp's. Overrides (-ot, --cpu-moe, --n-cpu-moe) form one list in the order in which
// they were typed; of those whose pattern is found in a tensor's name the first one counts. -ngl comes after
// them: it places whole layers, counted from the end, the output being the last. What no rule mentions is the
// planner's to place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "placement/inventory.h"
#include "placement/machine.h"
#include "placement/pattern.h"

namespace packmule::placement {

struct Rule {
  std::string words;  // as it was typed: "-ot exps=CPU", "--cpu-moe"
  Pattern pattern;
  Where where = kHost;
  bool written_by_user = true;  // the pattern; else it is that of a flag
};

struct Rules {
  std::vector<Rule> overrides;          // in the order of the command line
  std::optional<int64_t> n_gpu_layers;  // -ngl; more than there are: all of them
  bool kv_on_host = false;              // --no-kv-offload: KV and recurrent state
};

/// "REGEX=DEVICE[,REGEX=DEVICE...]". A comma ends an entry where a device's name stands before it, so commas
/// and equal signs inside of a pattern are allowed. At most kMaxOverrides entries. An error names the entry.
[[nodiscard]] Result<std::vector<Rule>> parse_override(std::string_view text, const Machine& machine);
inline constexpr size_t kMaxOverrides = 1000;

/// --cpu-moe: all experts on the CPU.
[[nodiscard]] Rule cpu_moe_rule();
/// --n-cpu-moe N: those of the first N layers, N >= 1; no model has more than kMaxMoeLayers.
[[nodiscard]] Rule n_cpu_moe_rule(int64_t n_layers);
inline constexpr int64_t kMaxMoeLayers = 500;

/// Which override counts for a tensor.
struct Matches {
  std::vector<std::vector<int>> of_rule;  // per override: indices of all tensors it is found in
  std::vector<int> first;                 // per tensor: the override that counts, -1 for none
};
/// An error when a pattern takes too many steps on a name.
[[nodiscard]] Result<Matches> match(const Rules& rules, const Inventory& inventory);

/// First block that -ngl puts on the devices, n_file_blocks standing for the output: llama.cpp's
/// max(blocks + 1 - N, 0).
[[nodiscard]] int64_t first_gpu_block(int64_t n_gpu_layers, const ModelShape& shape);
/// Which device a block (n_file_blocks: the output) goes to by -ngl: of several devices the first takes the
/// first blocks, in proportion to their free memory, as llama.cpp splits layers.
[[nodiscard]] Where gpu_of_block(int64_t block, int64_t n_gpu_layers, const ModelShape& shape,
                                 const Machine& machine);

}  // namespace packmule::placement
