#include "model/moe.h"

#include <algorithm>
#include <cmath>

#include "model/projection.h"

namespace packmule::model {
namespace {

class Router final : public Step {
 public:
  Router(int layer, const Hparams& h, const std::vector<float>& norm, const MoeWeights& weights,
         int n_threads)
      : layer_(layer),
        norm_(norm),
        w_(weights),
        eps_(h.rms_eps),
        n_experts_(h.n_experts),
        n_used_(h.n_experts_used),
        block_(block_rows(h.n_experts, n_threads)) {}

  void run(Pass& pass) const override {
    Workspace& ws = pass.ws;
    pass.for_each_row(pass.n_rows, [&](int64_t row) {
      pass.kernels.rms_norm(ws.x.row(row), norm_.data(), eps_, ws.h.n_cols, ws.h.row(row));
      ws.h.quantize(pass.kernels, row, 0, ws.h.n_cols);
    });
    pass.pool.run((n_experts_ + block_ - 1) / block_, [&](int64_t item, int worker) {
      WorkerScratch& scratch = ws.workers[static_cast<size_t>(worker)];
      const int64_t begin = item * block_;
      for (int64_t t = 0; t < pass.n_rows; ++t) scratch.y[t] = ws.router.row(t) + begin;
      multiply(w_.router, begin, std::min(block_, n_experts_ - begin), ws.h.inputs(), scratch.y, pass.n_rows,
               scratch.matmul);
    });
    pass.for_each_row(pass.n_rows, [&](int64_t row) {
      pass.kernels.router_top_k(ws.router.row(row), n_experts_, n_used_, ws.chosen + row * n_used_,
                                ws.chosen_weight + row * n_used_);
      const float s = pass.kernels.dot(ws.h.row(row), w_.shared_weight.data(), ws.h.n_cols);
      ws.shared_weight[row] = 1.0f / (1.0f + std::exp(-s));
    });
    group_pairs(pass);
    if (pass.probe != nullptr)
      for (int64_t row = 0; row < pass.n_rows; ++row)
        pass.probe->experts(layer_, row, {ws.chosen + row * n_used_, static_cast<size_t>(n_used_)});
  }

 private:
  /// Counting sort of the pairs by expert.
  void group_pairs(Pass& pass) const {
    Workspace& ws = pass.ws;
    const int64_t n_pairs = pass.n_rows * n_used_;
    int32_t* begin = ws.group_begin;
    std::fill_n(begin, n_experts_ + 1, 0);
    for (int64_t pair = 0; pair < n_pairs; ++pair) ++begin[ws.chosen[pair] + 1];
    ws.n_groups = 0;
    for (int64_t expert = 0; expert < n_experts_; ++expert) {
      const int32_t count = begin[expert + 1];
      begin[expert + 1] += begin[expert];
      if (count > 0)
        ws.groups[static_cast<size_t>(ws.n_groups++)] = {static_cast<int32_t>(expert), begin[expert],
                                                         begin[expert + 1]};
    }
    for (int64_t pair = 0; pair < n_pairs; ++pair) {
      const int32_t position = begin[ws.chosen[pair]]++;
      ws.pair_position[pair] = position;
      ws.pair_input[position] = ws.h.row(pair / n_used_);
      if (ws.h.quantized != nullptr) ws.pair_quantized[position] = ws.h.quantized[pair / n_used_];
    }
  }

  int layer_;
  const std::vector<float>& norm_;
  const MoeWeights& w_;
  float eps_;
  int64_t n_experts_;
  int64_t n_used_;
  int64_t block_;
};

class GateUp final : public Step {
 public:
  GateUp(const Hparams& h, const MoeWeights& weights, int n_threads)
      : w_(weights),
        expert_ff_(h.expert_ff),
        shared_ff_(h.shared_ff),
        block_(whole_groups(block_rows(h.expert_ff * h.n_experts_used + h.shared_ff, n_threads))) {}

  void run(Pass& pass) const override {
    Workspace& ws = pass.ws;
    const int64_t n_shared = (shared_ff_ + block_ - 1) / block_;
    const int64_t n_per_expert = (expert_ff_ + block_ - 1) / block_;
    // The shared expert first: with many tokens its items are the largest.
    pass.pool.run(n_shared + ws.n_groups * n_per_expert, [&](int64_t item, int worker) {
      WorkerScratch& scratch = ws.workers[static_cast<size_t>(worker)];
      if (item < n_shared) {
        run_block(pass, scratch, w_.shared_gate, w_.shared_up, item * block_, ws.h.inputs(), ws.shared_gate,
                  ws.shared_up, 0, pass.n_rows);
        return;
      }
      item -= n_shared;
      const ExpertGroup& group = ws.groups[static_cast<size_t>(item / n_per_expert)];
      run_block(pass, scratch, w_.gate.of(group.expert), w_.up.of(group.expert), item % n_per_expert * block_,
                {ws.pair_input + group.begin, ws.pair_quantized + group.begin}, ws.gate, ws.up, group.begin,
                group.end - group.begin);
    });
  }

 private:
  /// A block's results are quantized on the spot: it must not cut a group.
  static int64_t whole_groups(int64_t n_rows) {
    constexpr int64_t kGroup = kernels::kQuantizedGroup;
    return (n_rows + kGroup - 1) / kGroup * kGroup;
  }

  /// Rows [begin, begin + block) of gate and up times n inputs, to rows [to, to + n) of the buffers.
  void run_block(Pass& pass, WorkerScratch& scratch, const Matrix& gate, const Matrix& up, int64_t begin,
                 const Inputs& inputs, const Rows& gate_out, const Rows& up_out, int64_t to,
                 int64_t n) const {
    const int64_t n_rows = std::min(block_, gate.n_rows - begin);
    for (int64_t i = 0; i < n; ++i) scratch.y[i] = gate_out.row(to + i) + begin;
    multiply(gate, begin, n_rows, inputs, scratch.y, n, scratch.matmul);
    for (int64_t i = 0; i < n; ++i) scratch.y[i] = up_out.row(to + i) + begin;
    multiply(up, begin, n_rows, inputs, scratch.y, n, scratch.matmul);
    for (int64_t i = 0; i < n; ++i) {
      float* out = gate_out.row(to + i) + begin;
      pass.kernels.swiglu(out, scratch.y[i], n_rows, out);
      gate_out.quantize(pass.kernels, to + i, begin, n_rows);
    }
  }

  const MoeWeights& w_;
  int64_t expert_ff_;
  int64_t shared_ff_;
  int64_t block_;
};

class Down final : public Step {
 public:
  Down(int layer, const Hparams& h, const MoeWeights& weights, int n_threads)
      : layer_(layer),
        w_(weights),
        hidden_(h.hidden),
        n_used_(h.n_experts_used),
        block_(block_rows(h.hidden, n_threads)) {}

  // An item is a block of columns of the residual stream, for all rows and experts: the products of a row can
  // be summed on the spot in an order that depends on nothing but the row.
  void run(Pass& pass) const override {
    pass.pool.run((hidden_ + block_ - 1) / block_, [&](int64_t item, int worker) {
      const int64_t begin = item * block_;
      const int64_t n = std::min(block_, hidden_ - begin);
      WorkerScratch& scratch = pass.ws.workers[static_cast<size_t>(worker)];
      multiply_all(pass, scratch, begin, n);
      for (int64_t row = 0; row < pass.n_rows; ++row) add_row(pass, scratch, row, begin, n);
    });
    pass.probe_residual(layer_);
  }

 private:
  /// scratch.y: first the pairs in their order, then the rows of the shared expert.
  void multiply_all(Pass& pass, WorkerScratch& scratch, int64_t begin, int64_t n) const {
    Workspace& ws = pass.ws;
    const int64_t n_pairs = pass.n_rows * n_used_;
    for (int64_t i = 0; i < n_pairs + pass.n_rows; ++i) scratch.y[i] = scratch.block + i * kMaxBlockRows;
    for (int64_t i = 0; i < ws.n_groups; ++i) {
      const ExpertGroup& group = ws.groups[static_cast<size_t>(i)];
      multiply(w_.down.of(group.expert), begin, n, ws.gate.inputs(group.begin), scratch.y + group.begin,
               group.end - group.begin, scratch.matmul);
    }
    multiply(w_.shared_down, begin, n, ws.shared_gate.inputs(), scratch.y + n_pairs, pass.n_rows,
             scratch.matmul);
  }

  void add_row(Pass& pass, WorkerScratch& scratch, int64_t row, int64_t begin, int64_t n) const {
    const Workspace& ws = pass.ws;
    float* sum = scratch.block_sum;
    std::fill_n(sum, n, 0.0f);
    for (int64_t pair = row * n_used_; pair < (row + 1) * n_used_; ++pair)
      pass.kernels.axpy(ws.chosen_weight[pair], scratch.y[ws.pair_position[pair]], n, sum);
    pass.kernels.axpy(ws.shared_weight[row], scratch.y[pass.n_rows * n_used_ + row], n, sum);
    pass.kernels.axpy(1.0f, sum, n, ws.x.row(row) + begin);
  }

  int layer_;
  const MoeWeights& w_;
  int64_t hidden_;
  int64_t n_used_;
  int64_t block_;
};

}  // namespace

std::unique_ptr<Step> make_router(int layer, const Hparams& hparams, const std::vector<float>& norm,
                                  const MoeWeights& weights, int n_threads) {
  return std::make_unique<Router>(layer, hparams, norm, weights, n_threads);
}

std::unique_ptr<Step> make_gate_up(const Hparams& hparams, const MoeWeights& weights, int n_threads) {
  return std::make_unique<GateUp>(hparams, weights, n_threads);
}

std::unique_ptr<Step> make_down(int layer, const Hparams& hparams, const MoeWeights& weights, int n_threads) {
  return std::make_unique<Down>(layer, hparams, weights, n_threads);
}

}  // namespace packmule::model
