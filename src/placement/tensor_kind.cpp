#include "placement/tensor_kind.h"

namespace packmule::placement {
namespace {

struct Rule {
  std::string_view part;  // of the name after "blk.N."
  bool whole;             // else its beginning
  std::string_view kind;
};

// The first that fits counts.
constexpr auto kRules = std::to_array<Rule>({
    {"nextn.", false, "multi-token prediction"},
    {"token_embd.weight", true, "embeddings"},
    {"output.weight", true, "output"},
    {"output_norm.weight", true, "norms"},
    {"attn_norm.weight", true, "norms"},
    {"post_attention_norm.weight", true, "norms"},
    {"ffn_gate_inp.weight", true, "router"},
    {"attn_qkv.", false, "DeltaNet"},
    {"attn_gate.", false, "DeltaNet"},
    {"ssm_", false, "DeltaNet"},
    {"attn_", false, "attention"},
});

/// Without "blk.N."; the name itself when it has no such start.
std::string_view in_block(std::string_view name) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return name;
  const size_t dot = name.find('.', kBlock.size());
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

}  // namespace

std::string_view tensor_kind(std::string_view name) {
  const std::string_view part = in_block(name);
  for (const Rule& rule : kRules)
    if (rule.whole ? part == rule.part : part.starts_with(rule.part)) return rule.kind;
  if (part.find("_exps.") != std::string_view::npos) return "experts";
  if (part.find("_shexp.") != std::string_view::npos) return "shared experts";
  return "other";
}

}  // namespace packmule::placement
