#include "placement/refusal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/utf8.h"
#include "placement/words.h"

namespace packmule::placement {
namespace {

std::string parts_of(const Footprint& taken, bool with_weights) {
  std::vector<std::string> parts;
  const auto add = [&](std::string_view name, int64_t n_bytes) {
    if (n_bytes > 0) parts.push_back(fmt::format("{} {}", name, gigabytes(n_bytes)));
  };
  if (with_weights) add("weights", taken.weights);
  add("KV cache", taken.kv);
  add("recurrent state", taken.state);
  add("compute buffers", taken.compute);
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<std::string> shortages(const Request& request, const Placement& closest) {
  const Footprints taken = footprints(request.inventory, request.demand, closest);
  std::vector<std::string> texts;
  for (size_t p = 0; p < request.machine.processors.size(); ++p) {
    const Processor& processor = request.machine.processors[p];
    const bool with_weights = p != kHost || request.demand.weights_in_memory;
    const int64_t needed = taken[p].total() - (with_weights ? 0 : taken[p].weights);
    if (needed <= processor.budget_bytes()) continue;
    texts.push_back(fmt::format("{} needs {} bytes ({}), its budget is {} bytes ({} free less {} reserve)",
                                processor.name, needed, parts_of(taken[p], with_weights),
                                processor.budget_bytes(), gigabytes(processor.free_bytes),
                                gigabytes(processor.reserve_bytes)));
  }
  for (size_t t = 0; t < request.inventory.tensors.size(); ++t) {
    const Tensor& tensor = request.inventory.tensors[t];
    const Processor& processor = request.machine.at(closest.of_tensor[t]);
    if (tensor.part == Part::kUnused || processor.max_tensor_bytes == 0 ||
        tensor.bytes <= processor.max_tensor_bytes)
      continue;
    texts.push_back(fmt::format("{} has {} bytes, {} takes at most {} in one piece",
                                printable(tensor.name, 80), tensor.bytes, processor.name,
                                processor.max_tensor_bytes));
    break;  // the first says it
  }
  return texts;
}

bool fits(Request request) {
  request.wants_advice = false;
  return plan(request).has_value();
}

/// Largest -ngl that fits, 0 for none. What else the rules say stays.
int64_t most_gpu_layers(const Request& request) {
  Request changed = request;
  for (int64_t n = std::min(*request.rules.n_gpu_layers, request.inventory.shape.n_file_blocks + 1); n > 0;
       --n) {
    changed.rules.n_gpu_layers = n;
    const auto start = start_of(changed);
    if (!start) return 0;
    const Footprints taken = footprints(changed.inventory, changed.demand, start->placement);
    if (missing_bytes(changed.inventory, changed.machine, changed.demand, start->placement, taken) == 0)
      return n;
  }
  return 0;
}

std::vector<std::string> advice(const Request& request) {
  std::vector<std::string> flags;
  for (const std::vector<Alternative>& list : request.alternatives)
    for (const Alternative& alternative : list) {
      Request changed = request;
      changed.demand = alternative.demand;
      if (!fits(std::move(changed))) continue;
      flags.push_back(alternative.flags);
      break;
    }
  const Rules& rules = request.rules;
  if (request.machine.n_devices() > 0) {
    Request changed = request;
    changed.rules.overrides.insert(changed.rules.overrides.begin(), cpu_moe_rule());
    if (fits(std::move(changed))) flags.emplace_back("--cpu-moe before any -ot");
  }
  if (rules.n_gpu_layers.has_value()) {
    if (const int64_t n = most_gpu_layers(request); n > 0) flags.push_back(fmt::format("-ngl {}", n));
    Request changed = request;
    changed.rules.n_gpu_layers.reset();
    if (fits(std::move(changed))) flags.emplace_back("no -ngl, so that packmule places the layers itself");
  }
  if (!rules.overrides.empty()) {
    Request changed = request;
    changed.rules.overrides.clear();
    if (fits(std::move(changed))) flags.emplace_back("no -ot, --cpu-moe and --n-cpu-moe");
  }
  if (flags.empty()) {
    Request changed = request;
    changed.rules = {};
    if (fits(std::move(changed)))
      flags.emplace_back("no rules at all, so that packmule places everything itself");
  }
  return flags;
}

}  // namespace

tl::unexpected<Error> refuse(const Request& request, const Placement& closest) {
  std::string end;
  if (request.wants_advice) {
    const std::vector<std::string> flags = advice(request);
    end = flags.empty() ? "; no single flag makes it fit: give it more memory, less context and fewer rules"
                        : fmt::format("; it fits with {}", fmt::join(flags, ", or with "));
  }
  return fail(ErrorKind::kOutOfMemory, "does not fit, nothing was loaded: {}{}",
              fmt::join(shortages(request, closest), "; "), end);
}

}  // namespace packmule::placement
