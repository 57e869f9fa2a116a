#include "cli/plan_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "cache/sequence.h"
#include "model/model.h"
#include "model/weights.h"

namespace packmule::cli {
namespace {

/// What a context or a ubatch is not cut below when advice is sought.
constexpr int64_t kLeastContext = 2048;
constexpr int64_t kLeastUbatch = 256;

}  // namespace

placement::ModelShape model_shape(const model::Hparams& h) {
  return {.n_layers = h.n_layers,
          .n_file_blocks = h.n_layers + h.n_mtp_layers,
          .recurrent = h.recurrent,
          .n_vocab = h.n_vocab,
          .hidden = h.hidden,
          .n_experts = h.n_experts,
          .n_experts_used = h.n_experts_used,
          .expert_ff = h.expert_ff,
          .shared_ff = h.shared_ff,
          .n_heads = h.n_heads,
          .head_dim = h.head_dim,
          .in_columns = std::max(model::DeltaColumns(h).total, model::AttentionColumns(h).total),
          .mixed_columns = std::max(h.n_v_heads * h.dv, h.n_heads * h.head_dim),
          .state_values = h.n_v_heads * h.dk * h.dv,
          .n_delta_heads = h.n_v_heads};
}

Result<placement::Demand> Demands::of(const engine::EngineOptions& options) const {
  const model::ModelOptions model_options{.isa = isa_,
                                          .ubatch_size = engine::batch_tokens(options),
                                          .k_type = options.k_type,
                                          .v_type = options.v_type,
                                          .load_mode = options.load_mode,
                                          .logit_rows = options.n_parallel};
  PACKMULE_TRY(const model::ModelSizes sizes, model::Model::sizes(file_, model_options, options.n_threads));
  const cache::Layout& layout = sizes.cache_layout;
  const auto n_recurrent = static_cast<int64_t>(layout.recurrent.size()) - layout.n_attention_layers();
  placement::Demand demand;
  demand.n_ctx = options.ctx_size;
  demand.ubatch = options.ubatch_size;
  demand.n_sequences = options.n_parallel;
  demand.kept_bytes = options.cache_ram_bytes.value_or(0);
  demand.page_tokens = cache::kPageTokens;
  demand.kv_row_bytes = layout.n_kv_heads * (layout.k_row_bytes() + layout.v_row_bytes());
  demand.kv_in_blocks =
      quant::format_of(options.k_type).block_elems > 1 || quant::format_of(options.v_type).block_elems > 1;
  demand.state_bytes = n_recurrent > 0 ? layout.recurrent_bytes() / n_recurrent : 0;
  demand.host_compute_bytes = sizes.activation_bytes;
  demand.streaming = streaming_;
  demand.weights_in_memory =
      options.load_mode == model::LoadMode::kCopy || options.load_mode == model::LoadMode::kRepack;
  return demand;
}

std::vector<std::vector<placement::Alternative>> Demands::smaller_than(
    const engine::EngineOptions& options) const {
  std::vector<std::vector<placement::Alternative>> lists;
  const auto add = [&](std::string flags, const engine::EngineOptions& changed) {
    if (auto demand = of(changed)) lists.back().push_back({std::move(flags), *demand});
  };
  engine::EngineOptions changed = options;
  lists.emplace_back();
  for (const auto& [type, name] :
       {std::pair(quant::Type::kQ8_0, "q8_0"), std::pair(quant::Type::kQ4_0, "q4_0")}) {
    changed.k_type = changed.v_type = type;
    add(fmt::format("-ctk {} -ctv {}", name, name), changed);
  }
  changed = options;
  lists.emplace_back();
  while (changed.ctx_size / 2 >= kLeastContext) {
    changed.ctx_size /= 2;
    changed.ubatch_size = std::min(changed.ubatch_size, changed.ctx_size);
    add(fmt::format("-c {}", changed.ctx_size), changed);
  }
  changed = options;
  lists.emplace_back();
  while (changed.ubatch_size / 2 >= kLeastUbatch) {
    changed.ubatch_size /= 2;
    add(fmt::format("-ub {}", changed.ubatch_size), changed);
  }
  if (options.load_mode == model::LoadMode::kCopy || options.load_mode == model::LoadMode::kRepack) {
    changed = options;
    changed.load_mode = model::LoadMode::kMmap;
    lists.emplace_back();
    add("--load-mode mmap (what memory has no room for is read from the disk)", changed);
  }
  return lists;
}

std::vector<StreamedLayers> streamed_layers(const placement::Plan& plan) {
  std::map<int64_t, std::vector<int>> by_tokens;
  for (size_t layer = 0; layer < plan.stream_from.size(); ++layer)
    if (plan.stream_from[layer] > 0) by_tokens[plan.stream_from[layer]].push_back(static_cast<int>(layer));
  std::vector<StreamedLayers> all;
  for (auto& [from_tokens, layers] : by_tokens) all.push_back({from_tokens, std::move(layers)});
  return all;
}

Result<placement::Plan> plan_or_advise(placement::Request& request, const Demands& demands,
                                       const engine::EngineOptions& options) {
  auto made = placement::plan(request);
  if (made || made.error().kind != ErrorKind::kOutOfMemory) return made;
  // Only now: each way of asking for less is a look at the whole file.
  request.alternatives = demands.smaller_than(options);
  return placement::plan(request);
}

}  // namespace packmule::cli
