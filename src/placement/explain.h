// Rules in words: what each one matches, and where it may not say what its author meant.
#pragma once

#include <string>
#include <vector>

#include "placement/planner.h"

namespace packmule::placement {

struct RuleReport {
  std::string rule;  // as it was typed
  // "36 layers (12 to 47): 108 tensors, experts (gate, up, down), 44.9 GB to CPU"
  std::string matches;
  std::vector<std::string> warnings;
  std::vector<int> layers;      // that it is found in
  int64_t n_tensors = 0;        // that it is found in
  int64_t n_effective = 0;      // of those, that no earlier rule took
  int64_t effective_bytes = 0;  // of those
};

/// One report for each override, in order, then one for -ngl and one for --no-kv-offload if they were given.
[[nodiscard]] std::vector<RuleReport> explain(const Request& request, const Plan& plan);

}  // namespace packmule::placement
