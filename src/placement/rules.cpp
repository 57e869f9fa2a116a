#include "placement/rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/utf8.h"
#include "placement/words.h"

namespace packmule::placement {
namespace {

// llama.cpp's pattern for experts, with the "chexps" of other families.
constexpr std::string_view kExperts = R"(\.ffn_(up|down|gate|gate_up)_(ch|)exps)";

bool is_device_word(std::string_view word) {
  return !word.empty() &&
         std::ranges::all_of(word, [](unsigned char c) { return std::isalnum(c) || c == '_'; });
}

/// End of the first entry of `text`: the comma that follows "=DEVICE", or the end.
size_t entry_end(std::string_view text) {
  for (size_t comma = text.find(','); comma != std::string_view::npos; comma = text.find(',', comma + 1)) {
    const size_t equal = text.rfind('=', comma);
    if (equal != std::string_view::npos && is_device_word(text.substr(equal + 1, comma - equal - 1)))
      return comma;
  }
  return text.size();
}

Result<Rule> parse_entry(std::string_view entry, const Machine& machine) {
  const size_t equal = entry.rfind('=');
  if (equal == std::string_view::npos || equal + 1 == entry.size())
    return fail(ErrorKind::kInvalidArgument, "'{}': expected PATTERN=DEVICE, where DEVICE is one of {}",
                pattern_words(entry), machine.names());
  const std::string_view device = entry.substr(equal + 1);
  const Where where = machine.find(device);
  if (where < 0)
    return fail(ErrorKind::kInvalidArgument, "'{}': there is no device '{}'; there is {}{}",
                pattern_words(entry), printable(device, 40), machine.names(),
                machine.n_devices() == 0 ? "; --device-memory 8G imagines one" : "");
  PACKMULE_TRY(Pattern pattern, Pattern::compile(entry.substr(0, equal)));
  return Rule{fmt::format("-ot {}", entry), std::move(pattern), where, true};
}

}  // namespace

Result<std::vector<Rule>> parse_override(std::string_view text, const Machine& machine) {
  std::vector<Rule> rules;
  while (true) {
    const size_t end = entry_end(text);
    PACKMULE_TRY(Rule rule, parse_entry(text.substr(0, end), machine));
    rules.push_back(std::move(rule));
    if (rules.size() > kMaxOverrides)
      return fail(ErrorKind::kInvalidArgument, "expected at most {} entries", kMaxOverrides);
    if (end == text.size()) return rules;
    text.remove_prefix(end + 1);
  }
}

Rule cpu_moe_rule() {
  return {"--cpu-moe", Pattern::compile(kExperts).value(), kHost, false};
}

Rule n_cpu_moe_rule(int64_t n_layers) {
  std::string layers;
  for (int64_t layer = 0; layer < std::min(n_layers, kMaxMoeLayers); ++layer)
    layers += fmt::format("{}{}", layer == 0 ? "" : "|", layer);
  return {fmt::format("--n-cpu-moe {}", n_layers),
          Pattern::compile(fmt::format(R"(blk\.({}){})", layers, kExperts)).value(), kHost, false};
}

Result<Matches> match(const Rules& rules, const Inventory& inventory) {
  Matches matches;
  matches.of_rule.resize(rules.overrides.size());
  matches.first.assign(inventory.tensors.size(), -1);
  for (size_t r = 0; r < rules.overrides.size(); ++r)
    for (size_t t = 0; t < inventory.tensors.size(); ++t) {
      PACKMULE_TRY(const bool found, rules.overrides[r].pattern.found_in(inventory.tensors[t].name));
      if (!found) continue;
      matches.of_rule[r].push_back(static_cast<int>(t));
      if (matches.first[t] < 0) matches.first[t] = static_cast<int>(r);
    }
  return matches;
}

int64_t first_gpu_block(int64_t n_gpu_layers, const ModelShape& shape) {
  return std::max<int64_t>(shape.n_file_blocks + 1 - std::min(n_gpu_layers, shape.n_file_blocks + 1), 0);
}

Where gpu_of_block(int64_t block, int64_t n_gpu_layers, const ModelShape& shape, const Machine& machine) {
  const int64_t first = first_gpu_block(n_gpu_layers, shape);
  if (block < first || machine.n_devices() == 0) return kHost;
  const auto n_blocks = static_cast<double>(shape.n_file_blocks + 1 - first);
  double total = 0;
  for (int d = 1; d <= machine.n_devices(); ++d) total += static_cast<double>(machine.at(d).free_bytes);
  double share = 0;
  for (int d = 1; d < machine.n_devices(); ++d) {
    share += static_cast<double>(machine.at(d).free_bytes);
    if (static_cast<double>(block - first) / n_blocks < share / total) return d;
  }
  return machine.n_devices();
}

}  // namespace packmule::placement
