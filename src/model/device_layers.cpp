// What is not a mixer or a mixture of experts: embedding, norms, plain projections, the head.
#include "model/device_layers.h"

#include <algorithm>
#include <utility>

#include "model/device_limits.h"
#include "vulkan/commands.h"

namespace packmule::model {

using runtime::DeviceBatch;
using runtime::RowsOf;
using runtime::Value;
using vulkan::Recorder;

namespace {

constexpr int64_t kRoundedGroup = 32;  // values that share a scale

DeviceLayers::RoundedRows rounded_rows(runtime::Values& values, RowsOf rows_of, int64_t n_rows,
                                       int64_t n_cols) {
  constexpr int64_t kCodesInAWord = 4;
  return {
      values.add("rounded rows", rows_of, n_rows, (n_cols + kCodesInAWord - 1) / kCodesInAWord),
      values.add("scales of rounded rows", rows_of, n_rows, (n_cols + kRoundedGroup - 1) / kRoundedGroup)};
}

}  // namespace

DeviceLayers::DeviceLayers(const Hparams& hp, const cache::Layout& layout, int64_t n_tokens, int64_t n_logits,
                           runtime::DeviceState& state, runtime::DeviceWeights& weights)
    : x(state.values.add("residual stream", RowsOf::kTokens, n_tokens, hp.hidden)),
      h(state.values.add("normalised input", RowsOf::kTokens, n_tokens, hp.hidden)),
      in(state.values.add("input projections", RowsOf::kTokens, n_tokens,
                          std::max(DeltaColumns(hp).total, AttentionColumns(hp).total))),
      mixed(state.values.add("output of mixers", RowsOf::kTokens, n_tokens,
                             std::max(hp.n_v_heads * hp.dv, hp.n_heads * hp.head_dim))),
      delta(state.values.add("sum of experts", RowsOf::kTokens, n_tokens, hp.hidden)),
      ids(state.values.add("chosen experts", RowsOf::kTokens, n_tokens, hp.n_experts_used)),
      chosen_weight(state.values.add("weights of experts", RowsOf::kTokens, n_tokens, hp.n_experts_used)),
      gate(state.values.add("gate", RowsOf::kPairs, n_tokens * hp.n_experts_used, hp.expert_ff)),
      up(state.values.add("up", RowsOf::kPairs, n_tokens * hp.n_experts_used, hp.expert_ff)),
      shared_gate(state.values.add("gate of the shared expert", RowsOf::kTokens, n_tokens, hp.shared_ff)),
      shared_up(state.values.add("up of the shared expert", RowsOf::kTokens, n_tokens, hp.shared_ff)),
      logits(state.values.add("logits", RowsOf::kLogits, n_logits, hp.n_vocab)),
      h_(hp),
      layout_(layout),
      state_(state),
      weights_(weights),
      ops_(state.gpu->ops()),
      delta_tokens_(std::min(n_tokens, kDeltaTokensAtOnce)),
      q_(state.values.add("queries", RowsOf::kTokens, n_tokens, hp.n_heads * hp.head_dim)),
      g_(state.values.add("decays", RowsOf::kTokens, n_tokens, hp.n_v_heads)),
      beta_(state.values.add("strengths", RowsOf::kTokens, n_tokens, hp.n_v_heads)),
      delta_scratch_(state.values.add("chunks of the delta rule", RowsOf::kTokens, 1,
                                      vulkan::delta_scratch_bytes(delta_tokens_, hp.n_v_heads) / 4)),
      parts_(state.values.add("parts of attention", RowsOf::kTokens, 1, attention_parts_floats(hp))),
      product_(state.values.add("products", RowsOf::kTokens, n_tokens, hp.hidden)),
      router_logits_(state.values.add("router", RowsOf::kTokens, n_tokens, hp.n_experts)),
      shared_logit_(state.values.add("weight of the shared expert", RowsOf::kTokens, n_tokens, 1)),
      pair_product_(
          state.values.add("products of experts", RowsOf::kPairs, n_tokens * hp.n_experts_used, hp.hidden)),
      order_begins_(state.values.add("order of pairs", RowsOf::kTokens, 2, hp.n_experts + 1)),
      order_pairs_(state.values.add("order of pairs", RowsOf::kTokens, 2, n_tokens * hp.n_experts_used)),
      order_tiles_(
          state.values.add("order of pairs", RowsOf::kTokens, 2,
                           vulkan::ExpertOrder::tiles_bytes(n_tokens * hp.n_experts_used, hp.n_experts) / 4)),
      order_groups_(state.values.add("order of pairs", RowsOf::kTokens, 2, 4)),
      rounded_h_(rounded_rows(state.values, RowsOf::kTokens, n_tokens, hp.hidden)),
      rounded_mixed_(rounded_rows(state.values, RowsOf::kTokens, n_tokens, mixed.n_cols)),
      rounded_gate_(rounded_rows(state.values, RowsOf::kPairs, n_tokens * hp.n_experts_used, hp.expert_ff)),
      rounded_shared_(rounded_rows(state.values, RowsOf::kTokens, n_tokens, hp.shared_ff)),
      picked_(state.values.add("rows of logits", RowsOf::kLogits, n_logits, hp.hidden)) {}

bool DeviceLayers::takes_rounded(const Matrix& matrix) const {
  return state_.gpu->integer_products() && ops_.has_int8(matrix.format->type) &&
         matrix.n_cols % kRoundedGroup == 0;
}

void DeviceLayers::use(const RoundedRows& rounded) {
  state_.values.use(rounded.codes);
  state_.values.use(rounded.scales);
}

vulkan::QuantizedRows DeviceLayers::rounded_for(const Matrix& matrix, const RoundedRows& rounded,
                                                const DeviceBatch& batch) const {
  if (few(batch) || !takes_rounded(matrix)) return {};
  return {state_.values.span(rounded.codes), state_.values.span(rounded.scales)};
}

Status DeviceLayers::round(Recorder& r, const vulkan::Rows& from, const RoundedRows& to, int64_t n,
                           int64_t n_rows) {
  const runtime::Values& v = state_.values;
  PACKMULE_TRY_STATUS(ops_.quantize(r, from, {v.span(to.codes), v.span(to.scales)}, n, n_rows));
  r.barrier();
  return {};
}

DeviceLayers::Op DeviceLayers::round_h(std::vector<const Matrix*> matrices) {
  const bool any = std::ranges::any_of(matrices, [&](const Matrix* m) { return takes_rounded(*m); });
  if (any) use(rounded_h_);
  return [this, any](Recorder& r, const DeviceBatch& batch) -> Status {
    return any && !few(batch) ? round(r, state_.values.rows(h), rounded_h_, h_.hidden, batch.n_rows)
                              : Status{};
  };
}

vulkan::Span DeviceLayers::matrix_span(const Matrix& matrix) const {
  const vulkan::Span all = weights_.span(matrix.device_item);
  return all.part(matrix.device_offset, all.size_bytes - matrix.device_offset);
}

vulkan::Weights DeviceLayers::weights_of(const Matrix& matrix, const vulkan::Span& at) {
  vulkan::Weights w;
  w.type = matrix.format->type;
  w.span = at;
  w.n_rows = matrix.n_rows;
  w.n_cols = matrix.n_cols;
  w.scale = matrix.scale;
  return w;
}

DeviceLayers::Op DeviceLayers::embed(const Matrix& embedding) {
  state_.values.use(x);
  return [this, &embedding](Recorder& r, const DeviceBatch& batch) -> Status {
    PACKMULE_TRY_STATUS(
        ops_.get_rows(r, weights_of(embedding), state_.tables.tokens(), state_.values.rows(x), batch.n_rows));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::norm(const std::vector<float>& weight, const std::string& what) {
  state_.values.use(x);
  state_.values.use(h);
  const int item = weights_.add(weight, what);
  return [this, item](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    PACKMULE_TRY_STATUS(ops_.norm(r, {.x = {v.span(x), x.n_cols},
                                      .y = {v.span(h), h.n_cols},
                                      .weight = weights_.span(item),
                                      .n = h_.hidden,
                                      .n_tokens = batch.n_rows,
                                      .eps = h_.rms_eps}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::project(std::vector<const Projection*> projections) {
  state_.values.use(h);
  state_.values.use(in);
  std::vector<const Matrix*> matrices;
  for (const Projection* projection : projections) matrices.push_back(&projection->matrix);
  return [this, projections = std::move(projections), round = round_h(std::move(matrices))](
             Recorder& r, const DeviceBatch& batch) -> Status {
    PACKMULE_TRY_STATUS(round(r, batch));
    for (const Projection* projection : projections)
      PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = weights_of(projection->matrix),
                                          .x = state_.values.rows(h),
                                          .y = state_.values.columns(in, projection->column),
                                          .n_tokens = batch.n_rows,
                                          .rounded = rounded_for(projection->matrix, rounded_h_, batch)}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::output_projection(const Matrix& matrix) {
  state_.values.use(x);
  state_.values.use(mixed);
  state_.values.use(product_);
  if (takes_rounded(matrix)) use(rounded_mixed_);
  return [this, &matrix](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    const vulkan::QuantizedRows rounded = rounded_for(matrix, rounded_mixed_, batch);
    if (rounded.codes.address != 0)
      PACKMULE_TRY_STATUS(round(r, v.rows(mixed), rounded_mixed_, matrix.n_cols, batch.n_rows));
    PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = weights_of(matrix),
                                        .x = v.rows(mixed),
                                        .y = v.rows(product_),
                                        .n_tokens = batch.n_rows,
                                        .rounded = rounded}));
    r.barrier();
    PACKMULE_TRY_STATUS(ops_.elementwise(r, {.op = vulkan::Elementwise::kAdd,
                                             .a = {v.span(x), x.n_cols},
                                             .b = {v.span(product_), product_.n_cols},
                                             .y = {v.span(x), x.n_cols},
                                             .n = h_.hidden,
                                             .n_rows = batch.n_rows}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::add_delta() {
  state_.values.use(x);
  state_.values.use(delta);
  return [this](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    PACKMULE_TRY_STATUS(ops_.elementwise(r, {.op = vulkan::Elementwise::kAdd,
                                             .a = {v.span(x), x.n_cols},
                                             .b = {v.span(delta), delta.n_cols},
                                             .y = {v.span(x), x.n_cols},
                                             .n = h_.hidden,
                                             .n_rows = batch.n_rows}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::clear_delta() {
  state_.values.use(delta);
  return [this](Recorder& r, const DeviceBatch& batch) -> Status {
    r.fill(state_.values.span(delta).part(0, batch.n_rows * delta.row_bytes()), 0);
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::head(const std::vector<float>& norm_weight, const Matrix& output) {
  state_.values.use(x);
  state_.values.use(picked_);
  state_.values.use(logits);
  const int item = weights_.add(norm_weight, "output_norm.weight");
  return [this, item, &output](Recorder& r, const DeviceBatch& batch) -> Status {
    if (batch.n_logits == 0) return {};
    const runtime::Values& v = state_.values;
    // The rows asked for, by the shader that looks up embeddings.
    const vulkan::Weights all{
        .type = quant::Type::kF32, .span = v.span(x), .n_rows = batch.n_rows, .n_cols = h_.hidden};
    PACKMULE_TRY_STATUS(ops_.get_rows(r, all, state_.tables.logit_rows(), v.rows(picked_), batch.n_logits));
    r.barrier();
    PACKMULE_TRY_STATUS(ops_.norm(r, {.x = {v.span(picked_), picked_.n_cols},
                                      .y = {v.span(picked_), picked_.n_cols},
                                      .weight = weights_.span(item),
                                      .n = h_.hidden,
                                      .n_tokens = batch.n_logits,
                                      .eps = h_.rms_eps}));
    r.barrier();
    PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = weights_of(output),
                                        .x = v.rows(picked_),
                                        .y = v.rows(logits),
                                        .n_tokens = batch.n_logits}));
    r.barrier();
    return {};
  };
}

}  // namespace packmule::model
