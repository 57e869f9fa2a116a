// The mixture of experts on a device: router, chosen experts, shared expert.
#include <algorithm>

#include "model/device_layers.h"
#include "model/expert_stream.h"
#include "vulkan/commands.h"

namespace packmule::model {

using runtime::DeviceBatch;
using runtime::Value;
using vulkan::Recorder;

int DeviceLayers::factors_of(const ExpertMatrices& matrices) {
  const auto differs = [&](float factor) { return factor != matrices.scale.front(); };
  return std::ranges::any_of(matrices.scale, differs) ? weights_.add(matrices.scale, "factors of experts")
                                                      : -1;
}

vulkan::Weights DeviceLayers::weights_of(const ExpertMatrices& matrices, int factors) const {
  return weights_of(matrices, factors, matrix_span(matrices.first));
}

vulkan::Weights DeviceLayers::weights_of(const ExpertMatrices& matrices, int factors,
                                         const vulkan::Span& at) const {
  vulkan::Weights w = weights_of(matrices.first, at);
  w.n_experts = h_.n_experts;
  w.expert_stride_bytes = matrices.expert_bytes;
  w.scale = factors < 0 ? matrices.scale.front() : 1.0f;
  if (factors >= 0) w.expert_scales = weights_.span(factors);
  return w;
}

DeviceLayers::Op DeviceLayers::router(const MoeWeights& w) {
  for (Value* value : {&h, &router_logits_, &ids, &chosen_weight}) state_.values.use(*value);
  return [this, &w](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = weights_of(w.router),
                                        .x = v.rows(h),
                                        .y = v.rows(router_logits_),
                                        .n_tokens = batch.n_rows}));
    r.barrier();
    PACKMULE_TRY_STATUS(ops_.router_top_k(r, {.logits = v.rows(router_logits_),
                                              .ids = v.span(ids),
                                              .weights = v.span(chosen_weight),
                                              .n_experts = h_.n_experts,
                                              .k = h_.n_experts_used,
                                              .n_tokens = batch.n_rows}));
    r.barrier();
    return {};
  };
}

/// The two orders differ in how many tiles of rows a product has: 0 for gate and up, 1 for down.
vulkan::ExpertOrder DeviceLayers::order(int number, const DeviceBatch& batch) const {
  const auto row = [&](const Value& value) {
    return state_.values.span(value).part(number * value.row_bytes(), value.row_bytes());
  };
  return {.begins = row(order_begins_),
          .pairs = row(order_pairs_),
          .tiles = row(order_tiles_),
          .groups = row(order_groups_),
          .n_pairs = n_pairs(batch),
          .n_experts = h_.n_experts};
}

DeviceLayers::Op DeviceLayers::sort_pairs() {
  for (Value* value : {&ids, &order_begins_, &order_pairs_, &order_tiles_, &order_groups_})
    state_.values.use(*value);
  return [this](Recorder& r, const DeviceBatch& batch) -> Status {
    if (few(batch)) return {};
    PACKMULE_TRY_STATUS(ops_.expert_sort(r, state_.values.span(ids), order(0, batch), h_.expert_ff));
    PACKMULE_TRY_STATUS(ops_.expert_sort(r, state_.values.span(ids), order(1, batch), h_.hidden));
    r.barrier();
    return {};
  };
}

Status DeviceLayers::expert_matmul(Recorder& r, const DeviceBatch& batch, const vulkan::Weights& weights,
                                   const Value& from, const Value& to, int64_t x_divisor, int order_number,
                                   const vulkan::QuantizedRows& rounded) {
  const vulkan::ExpertMatmulArgs args{.weights = weights,
                                      .ids = state_.values.span(ids),
                                      .x = state_.values.rows(from),
                                      .y = state_.values.rows(to),
                                      .n_pairs = n_pairs(batch),
                                      .x_divisor = x_divisor,
                                      .rounded = rounded};
  return few(batch) ? ops_.expert_matvec(r, args) : ops_.expert_matmul(r, args, order(order_number, batch));
}

DeviceLayers::Op DeviceLayers::expert_product(const ExpertMatrices& matrices, Value& to) {
  state_.values.use(h);
  state_.values.use(to);
  return [this, &matrices, &to, factors = factors_of(matrices)](Recorder& r,
                                                                const DeviceBatch& batch) -> Status {
    PACKMULE_TRY_STATUS(expert_matmul(r, batch, weights_of(matrices, factors), h, to, h_.n_experts_used, 0,
                                      rounded_for(matrices.first, rounded_h_, batch)));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::swiglu(Value& gate_value, const Value& up_value) {
  return [this, &gate_value, &up_value](Recorder& r, const DeviceBatch& batch) -> Status {
    // Rows without gaps: those of a token's pairs are one. (Groups in y are tokens, of which there are few
    // enough.)
    const int64_t per_token = gate_value.rows_of == runtime::RowsOf::kPairs ? h_.n_experts_used : 1;
    const int64_t n = per_token * gate_value.n_cols;
    const runtime::Values& v = state_.values;
    PACKMULE_TRY_STATUS(ops_.elementwise(r, {.op = vulkan::Elementwise::kSwiglu,
                                             .a = {v.span(gate_value), n},
                                             .b = {v.span(up_value), n},
                                             .y = {v.span(gate_value), n},
                                             .n = n,
                                             .n_rows = batch.n_rows}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::round_gate(const ExpertMatrices& matrices) {
  const bool takes = takes_rounded(matrices.first);
  if (takes) use(rounded_gate_);
  return [this, takes](Recorder& r, const DeviceBatch& batch) -> Status {
    // As for swiglu(), a token's pairs are one row.
    const int64_t n = h_.n_experts_used * gate.n_cols;
    return takes && !few(batch) ? round(r, {state_.values.span(gate), n}, rounded_gate_, n, batch.n_rows)
                                : Status{};
  };
}

DeviceLayers::Op DeviceLayers::expert_down(const ExpertMatrices& matrices) {
  for (Value* value : {&gate, &pair_product_}) state_.values.use(*value);
  return [this, &matrices, factors = factors_of(matrices)](Recorder& r, const DeviceBatch& batch) -> Status {
    PACKMULE_TRY_STATUS(expert_matmul(r, batch, weights_of(matrices, factors), gate, pair_product_, 1, 1,
                                      rounded_for(matrices.first, rounded_gate_, batch)));
    r.barrier();
    return {};
  };
}

DeviceLayers::PieceOp DeviceLayers::piece(const ExpertMatrices& matrices, const Value& from, const Value& to,
                                          int64_t x_divisor, int order_number, const RoundedRows& rounded) {
  return [this, &matrices, &from, &to, x_divisor, order_number, &rounded, factors = factors_of(matrices)](
             Recorder& r, const DeviceBatch& batch, const vulkan::Span& at, int64_t first, int64_t n) {
    vulkan::Weights w = weights_of(matrices, factors, at);
    w.first_expert = first;
    w.n_experts = n;
    w.expert_stride_bytes = streamed_expert_bytes(matrices);
    return expert_matmul(r, batch, w, from, to, x_divisor, order_number,
                         rounded_for(matrices.first, rounded, batch));
  };
}

DeviceLayers::PieceOp DeviceLayers::expert_product_piece(const ExpertMatrices& matrices, Value& to) {
  state_.values.use(h);
  state_.values.use(to);
  return piece(matrices, h, to, h_.n_experts_used, 0, rounded_h_);
}

DeviceLayers::PieceOp DeviceLayers::expert_down_piece(const ExpertMatrices& matrices) {
  state_.values.use(gate);
  state_.values.use(pair_product_);
  return piece(matrices, gate, pair_product_, 1, 1, rounded_gate_);
}

DeviceLayers::Op DeviceLayers::expert_sum(bool into_delta) {
  Value& to = into_delta ? delta : x;
  for (Value* value : {&pair_product_, &chosen_weight, &to}) state_.values.use(*value);
  return [this, &to](Recorder& r, const DeviceBatch& batch) -> Status {
    PACKMULE_TRY_STATUS(ops_.expert_sum(r, {.y = state_.values.rows(pair_product_),
                                            .x = state_.values.rows(to),
                                            .weights = state_.values.span(chosen_weight),
                                            .n = h_.hidden,
                                            .k = h_.n_experts_used,
                                            .n_tokens = batch.n_rows}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::shared_product(const Matrix& matrix, Value& to) {
  state_.values.use(h);
  state_.values.use(to);
  return [this, &matrix, &to](Recorder& r, const DeviceBatch& batch) -> Status {
    PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = weights_of(matrix),
                                        .x = state_.values.rows(h),
                                        .y = state_.values.rows(to),
                                        .n_tokens = batch.n_rows,
                                        .rounded = rounded_for(matrix, rounded_h_, batch)}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::shared_weight(const std::vector<float>& weight) {
  state_.values.use(h);
  state_.values.use(shared_logit_);
  const int item = weights_.add(weight, "ffn_gate_inp_shexp.weight");
  return [this, item](Recorder& r, const DeviceBatch& batch) -> Status {
    const vulkan::Weights row{
        .type = quant::Type::kF32, .span = weights_.span(item), .n_rows = 1, .n_cols = h_.hidden};
    PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = row,
                                        .x = state_.values.rows(h),
                                        .y = state_.values.rows(shared_logit_),
                                        .n_tokens = batch.n_rows}));
    r.barrier();
    return {};
  };
}

DeviceLayers::Op DeviceLayers::shared_down(const Matrix& matrix, bool into_delta) {
  Value& to = into_delta ? delta : x;
  for (Value* value : {&shared_gate, &product_, &shared_logit_, &to}) state_.values.use(*value);
  if (takes_rounded(matrix)) use(rounded_shared_);
  return [this, &matrix, &to](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    const vulkan::QuantizedRows rounded = rounded_for(matrix, rounded_shared_, batch);
    if (rounded.codes.address != 0)
      PACKMULE_TRY_STATUS(round(r, v.rows(shared_gate), rounded_shared_, matrix.n_cols, batch.n_rows));
    PACKMULE_TRY_STATUS(ops_.matmul(r, {.weights = weights_of(matrix),
                                        .x = v.rows(shared_gate),
                                        .y = v.rows(product_),
                                        .n_tokens = batch.n_rows,
                                        .rounded = rounded}));
    r.barrier();
    // A sum over no experts, and the shared one.
    PACKMULE_TRY_STATUS(ops_.expert_sum(r, {.y = v.rows(product_),
                                            .x = v.rows(to),
                                            .weights = v.span(shared_logit_),
                                            .shared_y = v.rows(product_),
                                            .shared_gate = v.span(shared_logit_),
                                            .n = h_.hidden,
                                            .k = 0,
                                            .n_tokens = batch.n_rows}));
    r.barrier();
    return {};
  };
}

}  // namespace packmule::model
