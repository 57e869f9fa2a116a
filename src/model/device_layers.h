// The phases of the forward pass on a device: for each, what it needs is noted when the schedule is compiled,
// and an op is returned that records it for a batch.
//
// Activations have the columns they have on the host (workspace.h), so that they can be moved part by part;
// pairs (token, slot) lie in the order of the tokens here, not sorted by expert. Every op ends with a
// barrier.
//
// Where the device is fast at it (Gpu::integer_products), more than few tokens are multiplied with block
// formats as bytes: what a phase reads is rounded once, in groups of 32, for all its products. The router,
// the logits and formats of floats read activations as they are.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/hparams.h"
#include "model/weights.h"
#include "runtime/device_weights.h"
#include "runtime/segment.h"

namespace packmule::model {

class DeviceLayers {
 public:
  /// All three must outlive it. `n_tokens`, `n_logits`: of the largest batch.
  DeviceLayers(const Hparams& h, const cache::Layout& layout, int64_t n_tokens, int64_t n_logits,
               runtime::DeviceState& state, runtime::DeviceWeights& weights);

  // What is moved between host and device:
  runtime::Value& x;              // residual stream [T, hidden]
  runtime::Value& h;              // normalised [T, hidden]
  runtime::Value& in;             // input projections [T, DeltaColumns or AttentionColumns]
  runtime::Value& mixed;          // output of a mixer [T, nv * dv or n_heads * head_dim]
  runtime::Value& delta;          // a sum that goes into x on the other side [T, hidden]
  runtime::Value& ids;            // chosen experts, int32 [T, k]
  runtime::Value& chosen_weight;  // [T, k]
  runtime::Value& gate;           // [T * k, expert_ff], then silu(gate) * up
  runtime::Value& up;             // [T * k, expert_ff]
  runtime::Value& shared_gate;    // [T, shared_ff]
  runtime::Value& shared_up;      // [T, shared_ff]
  runtime::Value& logits;         // [R, n_vocab]

  /// Activations as bytes; without memory where no product takes them.
  struct RoundedRows {
    runtime::Value& codes;
    runtime::Value& scales;
  };

  using Op = runtime::Op;
  /// As an Op, for experts [first, first + n) whose matrices lie at `at` (expert_stream.h). Barriers are the
  /// caller's.
  using PieceOp = std::function<Status(vulkan::Recorder&, const runtime::DeviceBatch&, const vulkan::Span& at,
                                       int64_t first, int64_t n)>;
  Op embed(const Matrix& embedding);                                   // x
  Op norm(const std::vector<float>& weight, const std::string& what);  // h = norm(x)
  Op project(std::vector<const Projection*> projections);              // in = matrices h
  Op attention(int layer, const AttentionWeights& w);                  // mixed, from in and the cache
  Op delta_rule(int layer, const DeltaNetWeights& w);                  // mixed, from in and the state
  Op output_projection(const Matrix& matrix);                          // x += matrix mixed
  Op router(const MoeWeights& w);                                      // ids, chosen_weight of h
  /// Rounds h for products with some of these matrices, those of one phase; before them.
  Op round_h(std::vector<const Matrix*> matrices);
  Op round_gate(const ExpertMatrices& matrices);  // gate, for expert_down
  Op sort_pairs();                                // prepares products of experts; needs ids
  Op expert_product(const ExpertMatrices& matrices, runtime::Value& to);  // gate or up, of h
  Op swiglu(runtime::Value& gate_value, const runtime::Value& up_value);
  Op expert_down(const ExpertMatrices& matrices);  // products of pairs, of gate
  Op expert_sum(bool into_delta);                  // x or delta += their weighted sum
  /// expert_product() and expert_down() of matrices that are the host's; batches of more than few tokens.
  PieceOp expert_product_piece(const ExpertMatrices& matrices, runtime::Value& to);
  PieceOp expert_down_piece(const ExpertMatrices& matrices);
  Op shared_product(const Matrix& matrix, runtime::Value& to);  // shared_gate or shared_up, of h
  Op shared_weight(const std::vector<float>& weight);           // logit of the shared expert's weight, of h
  Op shared_down(const Matrix& matrix, bool into_delta);        // x or delta += weighted product
  Op clear_delta();
  Op add_delta();                                                        // x += delta
  Op head(const std::vector<float>& norm_weight, const Matrix& output);  // logits of the rows asked for

 private:
  /// Takes note of a matrix of the device; what its products read it by.
  [[nodiscard]] vulkan::Weights weights_of(const Matrix& matrix) const {
    return weights_of(matrix, matrix_span(matrix));
  }
  /// Of one that lies at `at`.
  [[nodiscard]] static vulkan::Weights weights_of(const Matrix& matrix, const vulkan::Span& at);
  [[nodiscard]] vulkan::Span matrix_span(const Matrix& matrix) const;
  /// `factors`: item of the experts' factors, -1 where all have the same.
  [[nodiscard]] vulkan::Weights weights_of(const ExpertMatrices& matrices, int factors) const;
  [[nodiscard]] vulkan::Weights weights_of(const ExpertMatrices& matrices, int factors,
                                           const vulkan::Span& at) const;
  int factors_of(const ExpertMatrices& matrices);
  [[nodiscard]] vulkan::ExpertOrder order(int number, const runtime::DeviceBatch& batch) const;
  [[nodiscard]] int64_t n_pairs(const runtime::DeviceBatch& batch) const {
    return batch.n_rows * h_.n_experts_used;
  }
  [[nodiscard]] static bool few(const runtime::DeviceBatch& batch) {
    return batch.n_rows <= vulkan::Ops::kFewTokens;
  }
  PieceOp piece(const ExpertMatrices& matrices, const runtime::Value& from, const runtime::Value& to,
                int64_t x_divisor, int order_number, const RoundedRows& rounded);
  /// Whether batches of more than few tokens are rounded for this matrix.
  [[nodiscard]] bool takes_rounded(const Matrix& matrix) const;
  void use(const RoundedRows& rounded);
  /// What a product with `matrix` reads instead of floats; without an address: nothing.
  [[nodiscard]] vulkan::QuantizedRows rounded_for(const Matrix& matrix, const RoundedRows& rounded,
                                                  const runtime::DeviceBatch& batch) const;
  /// Rounds the first n columns of `from`, and a barrier.
  Status round(vulkan::Recorder& r, const vulkan::Rows& from, const RoundedRows& to, int64_t n,
               int64_t n_rows);
  Status expert_matmul(vulkan::Recorder& r, const runtime::DeviceBatch& batch, const vulkan::Weights& weights,
                       const runtime::Value& from, const runtime::Value& to, int64_t x_divisor,
                       int order_number, const vulkan::QuantizedRows& rounded);
  Status convolve(vulkan::Recorder& r, const runtime::DeviceBatch& batch, int layer,
                  const vulkan::Span& weight);
  Status apply_delta(vulkan::Recorder& r, const runtime::DeviceBatch& batch, int layer);
  Status attend(vulkan::Recorder& r, const runtime::DeviceBatch& batch, int layer);

  const Hparams& h_;
  const cache::Layout& layout_;
  runtime::DeviceState& state_;
  runtime::DeviceWeights& weights_;
  vulkan::Ops& ops_;
  int64_t delta_tokens_;  // that the chunked delta rule has room for at once

  // Of the device alone:
  runtime::Value &q_, &g_, &beta_, &delta_scratch_, &parts_;
  runtime::Value &product_, &router_logits_, &shared_logit_, &pair_product_;
  runtime::Value &order_begins_, &order_pairs_, &order_tiles_,
      &order_groups_;  // a row for each of two orders
  RoundedRows rounded_h_, rounded_mixed_, rounded_gate_, rounded_shared_;
  runtime::Value& picked_;  // rows of x whose logits are asked for
};

}  // namespace packmule::model
