// The 80B model's tensor directory without its weights, and what a run of it needs.
#pragma once

#include <fmt/format.h>

#include <deque>
#include <string>
#include <vector>

#include "placement/planner.h"

namespace packmule::placement {

/// Names, shapes and types as in a file of the UD-Q4_K_XL kind; the first and last few layers have experts of
/// higher precision, as such files do.
class DirectoryForTest {
 public:
  int64_t n_layers = 48;
  bool fused_gate_up = false;
  bool old_ssm_in = false;  // one tensor for q, k, v and z
  bool tied_output = false;
  bool with_mtp_block = false;

  /// Valid while this object is.
  [[nodiscard]] const std::vector<gguf::TensorInfo>& tensors() {
    if (tensors_.empty()) (void)inventory();
    return tensors_;
  }

  [[nodiscard]] Inventory inventory() {
    using quant::Type;
    tensors_.clear();
    add("token_embd.weight", {kHidden, kVocab}, Type::kQ5_K);
    add("output_norm.weight", {kHidden}, Type::kF32);
    if (!tied_output) add("output.weight", {kHidden, kVocab}, Type::kQ6_K);
    ModelShape shape{.n_layers = n_layers,
                     .n_file_blocks = n_layers + (with_mtp_block ? 1 : 0),
                     .n_vocab = kVocab,
                     .hidden = kHidden,
                     .n_experts = kExperts,
                     .n_experts_used = 10,
                     .expert_ff = kFf,
                     .shared_ff = kFf,
                     .n_heads = 16,
                     .head_dim = 256,
                     .in_columns = 12352,
                     .mixed_columns = 4096,
                     .state_values = 32 * 128 * 128};
    for (int64_t layer = 0; layer < shape.n_file_blocks; ++layer) {
      const bool recurrent = (layer + 1) % 4 != 0 && layer < n_layers;
      if (layer < n_layers) shape.recurrent.push_back(recurrent);
      const std::string block = fmt::format("blk.{}.", layer);
      add(block + "attn_norm.weight", {kHidden}, Type::kF32);
      add(block + "post_attention_norm.weight", {kHidden}, Type::kF32);
      recurrent ? delta_net(block) : attention(block);
      experts(block, layer < 3 || layer >= 45);
      if (layer >= n_layers) add(block + "nextn.eh_proj.weight", {2 * kHidden, kHidden}, Type::kQ8_0);
    }
    return Inventory::make(std::move(shape), tensors_);
  }

 private:
  static constexpr int64_t kHidden = 2048;
  static constexpr int64_t kVocab = 151936;
  static constexpr int64_t kExperts = 512;
  static constexpr int64_t kFf = 512;

  void add(const std::string& name, std::vector<int64_t> ne, quant::Type type) {
    gguf::TensorInfo info;
    info.name = names_.emplace_back(name);
    info.n_dims = static_cast<int>(ne.size());
    for (size_t d = 0; d < ne.size(); ++d) info.ne[d] = ne[d];
    info.format = &quant::format_of(type);
    info.size_bytes = static_cast<uint64_t>(info.n_elems() / info.ne[0] * info.row_bytes());
    tensors_.push_back(info);
  }
  void delta_net(const std::string& block) {
    using quant::Type;
    if (old_ssm_in) {
      add(block + "ssm_in.weight", {kHidden, 8192 + 4096}, Type::kQ8_0);
    } else {
      add(block + "attn_qkv.weight", {kHidden, 8192}, Type::kQ8_0);
      add(block + "attn_gate.weight", {kHidden, 4096}, Type::kQ8_0);
    }
    add(block + "ssm_ba.weight", {kHidden, 64}, Type::kF32);
    add(block + "ssm_conv1d.weight", {4, 8192}, Type::kF32);
    add(block + "ssm_dt.bias", {32}, Type::kF32);
    add(block + "ssm_a", {32}, Type::kF32);
    add(block + "ssm_norm.weight", {128}, Type::kF32);
    add(block + "ssm_out.weight", {4096, kHidden}, Type::kQ8_0);
  }
  void attention(const std::string& block) {
    using quant::Type;
    add(block + "attn_q.weight", {kHidden, 8192}, Type::kQ8_0);
    add(block + "attn_k.weight", {kHidden, 512}, Type::kQ8_0);
    add(block + "attn_v.weight", {kHidden, 512}, Type::kQ8_0);
    add(block + "attn_output.weight", {4096, kHidden}, Type::kQ8_0);
    add(block + "attn_q_norm.weight", {256}, Type::kF32);
    add(block + "attn_k_norm.weight", {256}, Type::kF32);
  }
  void experts(const std::string& block, bool precise) {
    using quant::Type;
    const Type in = precise ? Type::kQ5_K : Type::kQ4_K;
    add(block + "ffn_gate_inp.weight", {kHidden, kExperts}, Type::kF32);
    if (fused_gate_up) {
      add(block + "ffn_gate_up_exps.weight", {kHidden, 2 * kFf, kExperts}, in);
    } else {
      add(block + "ffn_gate_exps.weight", {kHidden, kFf, kExperts}, in);
      add(block + "ffn_up_exps.weight", {kHidden, kFf, kExperts}, in);
    }
    add(block + "ffn_down_exps.weight", {kFf, kHidden, kExperts}, precise ? Type::kQ6_K : Type::kQ5_K);
    add(block + "ffn_gate_inp_shexp.weight", {kHidden}, Type::kF32);
    add(block + "ffn_gate_shexp.weight", {kHidden, kFf}, Type::kQ8_0);
    add(block + "ffn_up_shexp.weight", {kHidden, kFf}, Type::kQ8_0);
    add(block + "ffn_down_shexp.weight", {kFf, kHidden}, Type::kQ8_0);
  }

  std::deque<std::string> names_;  // tensors_ refer to them
  std::vector<gguf::TensorInfo> tensors_;
};

inline Demand demand_for_test(int64_t n_ctx, quant::Type cache = quant::Type::kF16) {
  const quant::Format& format = quant::format_of(cache);
  return {.n_ctx = n_ctx,
          .ubatch = 1024,
          .n_sequences = 1,
          .page_tokens = 64,
          .kv_row_bytes = 2 * quant::row_bytes(format, 2 * 256),
          .kv_in_blocks = format.block_elems > 1,
          .state_bytes = (32 * 128 * 128 + 3 * 8192) * 4,
          .host_compute_bytes = int64_t{900} << 20};
}

inline constexpr int64_t kGib = int64_t{1} << 30;

/// A host and its devices, by memory in GiB; a tenth of each is the reserve.
inline Machine machine_for_test(double host_gib, const std::vector<double>& device_gib) {
  Machine machine;
  machine.disk_bytes_s = kDefaultDiskBytesS;
  machine.processors.push_back(default_host(8, false));
  machine.processors[0].free_bytes = static_cast<int64_t>(host_gib * kGib);
  for (size_t i = 0; i < device_gib.size(); ++i)
    machine.processors.push_back(
        default_device(static_cast<int>(i), static_cast<int64_t>(device_gib[i] * kGib)));
  for (Processor& p : machine.processors) p.reserve_bytes = p.free_bytes / 10;
  return machine;
}

inline Request request_for_test(double host_gib, const std::vector<double>& device_gib,
                                int64_t n_ctx = 32768) {
  Request request;
  request.inventory = DirectoryForTest().inventory();
  request.machine = machine_for_test(host_gib, device_gib);
  request.demand = demand_for_test(n_ctx);
  request.depth = 4096;
  return request;
}

inline void add_rules(Request& request, std::string_view text) {
  const auto rules = parse_override(text, request.machine).value();
  request.rules.overrides.insert(request.rules.overrides.end(), rules.begin(), rules.end());
}

}  // namespace packmule::placement
