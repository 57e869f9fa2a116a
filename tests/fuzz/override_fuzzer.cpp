// Any text after -ot: rules, or one line that says what is wrong. Every rule can be looked for in every name
// of a model within its limit of steps, and said in one line.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "placement/pattern_mistakes.h"
#include "placement/rules.h"
#include "placement/words.h"

namespace {

using namespace packmule;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "override_fuzzer: %s\n", what);
  std::abort();
}

bool is_one_line(std::string_view text) {
  return !text.empty() && text.find('\n') == std::string_view::npos;
}

placement::Machine machine() {
  placement::Machine made;
  made.processors = {placement::default_host(4, false), placement::default_device(0, 1 << 30)};
  return made;
}

/// A few names of each kind; patterns are told apart by single tensors, not by many.
placement::Inventory inventory() {
  static constexpr std::string_view kNames[] = {"token_embd.weight",
                                                "output.weight",
                                                "blk.0.attn_qkv.weight",
                                                "blk.0.ffn_gate_exps.weight",
                                                "blk.1.ssm_a",
                                                "blk.10.ffn_up_exps.weight",
                                                "blk.11.ffn_down_exps.weight",
                                                "blk.2.ffn_gate_inp.weight",
                                                "blk.2.ffn_up_shexp.weight"};
  std::vector<gguf::TensorInfo> tensors;
  for (const std::string_view name : kNames) {
    gguf::TensorInfo& info = tensors.emplace_back();
    info.name = name;
    info.format = &quant::format_of(quant::Type::kF32);
    info.size_bytes = 4;
  }
  return placement::Inventory::make(
      {.n_layers = 12, .recurrent = std::vector<bool>(12, true), .n_experts = 1, .n_experts_used = 1},
      tensors);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const placement::Machine kMachine = machine();
  static const placement::Inventory kInventory = inventory();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = placement::parse_override(text, kMachine);
  if (!parsed) {
    require(is_one_line(parsed.error().message), "an error is not one line");
    return 0;
  }
  placement::Rules rules;
  rules.overrides = *parsed;
  for (const placement::Rule& rule : rules.overrides)
    require(is_one_line(placement::pattern_words(rule.words)), "a rule is not one line");
  const auto matches = placement::match(rules, kInventory);
  if (!matches) {
    require(is_one_line(matches.error().message), "an error is not one line");
    return 0;
  }
  for (size_t r = 0; r < rules.overrides.size(); ++r)
    for (const std::string& mistake :
         placement::pattern_mistakes(rules.overrides[r].pattern, matches->of_rule[r], kInventory))
      require(is_one_line(mistake), "a warning is not one line");
  return 0;
}
