#include "placement/inventory.h"

#include <array>
#include <charconv>
#include <utility>

#include "placement/tensor_kind.h"

namespace packmule::placement {
namespace {

// Beginnings of names after "blk.N."; the first that fits counts.
constexpr auto kParts = std::to_array<std::pair<std::string_view, Part>>({
    {"nextn.", Part::kUnused},
    {"attn_norm.", Part::kMixerSmall},
    {"attn_q_norm.", Part::kMixerSmall},
    {"attn_k_norm.", Part::kMixerSmall},
    {"attn_output.", Part::kMixerOut},
    {"attn_qkv.", Part::kMixerIn},
    {"attn_gate.", Part::kMixerIn},
    {"attn_q.", Part::kMixerIn},
    {"attn_k.", Part::kMixerIn},
    {"attn_v.", Part::kMixerIn},
    {"ssm_in.", Part::kMixerIn},
    {"ssm_ba.", Part::kMixerIn},
    {"ssm_out.", Part::kMixerOut},
    {"ssm_", Part::kMixerSmall},
    {"post_attention_norm.", Part::kRouter},
    {"ffn_gate_inp.", Part::kRouter},
    {"ffn_gate_inp_shexp.", Part::kShared},
    {"ffn_gate_shexp.", Part::kShared},
    {"ffn_up_shexp.", Part::kShared},
    {"ffn_down_shexp.", Part::kShared},
    {"ffn_gate_up_exps.", Part::kExpertGate},
    {"ffn_gate_exps.", Part::kExpertGate},
    {"ffn_up_exps.", Part::kExpertUp},
    {"ffn_down_exps.", Part::kExpertDown},
});

struct Place {
  int layer = -1;
  std::string_view rest;  // of the name, after "blk.N."
};

Place place_of(std::string_view name) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return {-1, name};
  const std::string_view after = name.substr(kBlock.size());
  int layer = -1;
  const auto [end, error] = std::from_chars(after.data(), after.data() + after.size(), layer);
  const auto n_digits = static_cast<size_t>(end - after.data());
  if (error != std::errc() || layer < 0 || n_digits >= after.size() || after[n_digits] != '.')
    return {-1, name};
  return {layer, after.substr(n_digits + 1)};
}

Part part_of(const Place& place, int64_t n_layers) {
  if (place.layer < 0) {
    if (place.rest.starts_with("token_embd.")) return Part::kEmbedding;
    if (place.rest == "output_norm.weight" || place.rest.starts_with("output.")) return Part::kOutput;
    return Part::kUnused;
  }
  if (place.layer >= n_layers) return Part::kUnused;
  for (const auto& [beginning, part] : kParts)
    if (place.rest.starts_with(beginning)) return part;
  return Part::kUnused;
}

int64_t per_token(const gguf::TensorInfo& info, Part part, const ModelShape& shape) {
  const auto bytes = static_cast<int64_t>(info.size_bytes);
  if (info.name.ends_with(".scale")) return bytes;  // factors of all experts, a few bytes
  if (part == Part::kEmbedding) return info.row_bytes();
  if (is_expert(part)) return bytes / shape.n_experts * shape.n_experts_used;
  return part == Part::kUnused ? 0 : bytes;
}

}  // namespace

Inventory Inventory::make(ModelShape shape, std::span<const gguf::TensorInfo> tensors) {
  Inventory inventory;
  inventory.of_layer.resize(static_cast<size_t>(shape.n_layers));
  bool has_output = false;
  for (const gguf::TensorInfo& info : tensors) {
    const Place place = place_of(info.name);
    Tensor tensor;
    tensor.name = info.name;
    tensor.part = part_of(place, shape.n_layers);
    tensor.kind =
        place.layer >= shape.n_layers ? std::string_view("multi-token prediction") : tensor_kind(info.name);
    tensor.layer = place.layer;
    tensor.type = info.format->type;
    tensor.bytes = static_cast<int64_t>(info.size_bytes);
    tensor.n_elems = info.n_elems();
    tensor.bytes_per_token = per_token(info, tensor.part, shape);
    has_output |= info.name == "output.weight";
    inventory.tensors.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < inventory.tensors.size() && !has_output; ++i) {
    if (inventory.tensors[i].name != "token_embd.weight") continue;
    Tensor head = inventory.tensors[i];
    head.name = "output.weight";
    head.kind = "output";
    head.part = Part::kOutput;
    head.bytes_per_token = head.bytes;
    head.tied = true;
    inventory.tensors.push_back(std::move(head));
    break;
  }
  for (size_t i = 0; i < inventory.tensors.size(); ++i) {
    const Tensor& tensor = inventory.tensors[i];
    const int index = static_cast<int>(i);
    if (tensor.part == Part::kUnused) {
      inventory.unused_bytes += tensor.bytes;
      continue;
    }
    if (!tensor.tied) inventory.loaded_bytes += tensor.bytes;
    inventory.bytes_per_token += tensor.bytes_per_token;
    if (tensor.part == Part::kEmbedding && tensor.name.ends_with(".weight")) inventory.embedding = index;
    if (tensor.part == Part::kOutput) inventory.output.push_back(index);
    if (tensor.layer >= 0) inventory.of_layer[static_cast<size_t>(tensor.layer)].push_back(index);
  }
  inventory.shape = std::move(shape);
  return inventory;
}

}  // namespace packmule::placement
