#include "model/moe.h"

#include <algorithm>
#include <cmath>

#include "model/projection.h"

namespace packmule::model {
namespace {

/// Counting sort of the pairs by expert.
void group_pairs(Pass& pass, int64_t n_experts, int64_t n_used) {
  Workspace& ws = pass.ws;
  const int64_t n_pairs = pass.n_rows * n_used;
  int32_t* begin = ws.group_begin;
  std::fill_n(begin, n_experts + 1, 0);
  for (int64_t pair = 0; pair < n_pairs; ++pair) ++begin[ws.chosen[pair] + 1];
  ws.n_groups = 0;
  for (int64_t expert = 0; expert < n_experts; ++expert) {
    const int32_t count = begin[expert + 1];
    begin[expert + 1] += begin[expert];
    if (count > 0)
      ws.groups[static_cast<size_t>(ws.n_groups++)] = {static_cast<int32_t>(expert), begin[expert],
                                                       begin[expert + 1]};
  }
  for (int64_t pair = 0; pair < n_pairs; ++pair) {
    const int32_t position = begin[ws.chosen[pair]]++;
    ws.pair_position[pair] = position;
    ws.pair_input[position] = ws.h.row(pair / n_used);
    if (ws.h.quantized != nullptr) ws.pair_quantized[position] = ws.h.quantized[pair / n_used];
  }
}

void weigh_shared(Pass& pass, int64_t row, const MoeWeights& weights) {
  const float s = pass.kernels.dot(pass.ws.h.row(row), weights.shared_weight.data(), pass.ws.h.n_cols);
  pass.ws.shared_weight[row] = 1.0f / (1.0f + std::exp(-s));
}

class Pairs final : public Step {
 public:
  Pairs(const Hparams& h, const MoeWeights& weights, bool experts, bool shared)
      : w_(weights), n_experts_(h.n_experts), n_used_(h.n_experts_used), experts_(experts), shared_(shared) {}

  void run(Pass& pass) const override {
    if (shared_) pass.for_each_row(pass.n_rows, [&](int64_t row) { weigh_shared(pass, row, w_); });
    if (experts_) group_pairs(pass, n_experts_, n_used_);
  }

 private:
  const MoeWeights& w_;
  int64_t n_experts_;
  int64_t n_used_;
  bool experts_;
  bool shared_;
};

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
      weigh_shared(pass, row, w_);
    });
    group_pairs(pass, n_experts_, n_used_);
    if (pass.probe != nullptr)
      for (int64_t row = 0; row < pass.n_rows; ++row)
        pass.probe->experts(layer_, row, {ws.chosen + row * n_used_, static_cast<size_t>(n_used_)});
  }

 private:
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
  GateUp(const Hparams& h, const MoeWeights& weights, int n_threads, GateUpParts parts)
      : w_(weights),
        parts_(parts),
        expert_ff_(h.expert_ff),
        shared_ff_(h.shared_ff),
        block_(whole_groups(block_rows(h.expert_ff * h.n_experts_used + h.shared_ff, n_threads))) {}

  void run(Pass& pass) const override {
    Workspace& ws = pass.ws;
    const int64_t n_shared = parts_.shared_gate || parts_.shared_up ? (shared_ff_ + block_ - 1) / block_ : 0;
    const int64_t n_per_expert = (expert_ff_ + block_ - 1) / block_;
    const int64_t n_groups = parts_.gate || parts_.up ? ws.n_groups : 0;
    // The shared expert first: with many tokens its items are the largest.
    pass.pool.run(n_shared + n_groups * n_per_expert, [&](int64_t item, int worker) {
      WorkerScratch& scratch = ws.workers[static_cast<size_t>(worker)];
      if (item < n_shared) {
        run_block(pass, scratch, parts_.shared_gate ? &w_.shared_gate : nullptr,
                  parts_.shared_up ? &w_.shared_up : nullptr, item * block_, shared_ff_, ws.h.inputs(),
                  ws.shared_gate, ws.shared_up, 0, pass.n_rows);
        return;
      }
      item -= n_shared;
      const ExpertGroup& group = ws.groups[static_cast<size_t>(item / n_per_expert)];
      const Matrix gate = w_.gate.of(group.expert), up = w_.up.of(group.expert);
      run_block(pass, scratch, parts_.gate ? &gate : nullptr, parts_.up ? &up : nullptr,
                item % n_per_expert * block_, expert_ff_,
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

  /// Rows [begin, begin + block) of gate and up (null: not the host's) times n inputs, to rows [to, to + n)
  /// of the buffers.
  void run_block(Pass& pass, WorkerScratch& scratch, const Matrix* gate, const Matrix* up, int64_t begin,
                 int64_t n_all_rows, const Inputs& inputs, const Rows& gate_out, const Rows& up_out,
                 int64_t to, int64_t n) const {
    const int64_t n_rows = std::min(block_, n_all_rows - begin);
    if (gate != nullptr) {
      for (int64_t i = 0; i < n; ++i) scratch.y[i] = gate_out.row(to + i) + begin;
      multiply(*gate, begin, n_rows, inputs, scratch.y, n, scratch.matmul);
    }
    if (up != nullptr) {
      for (int64_t i = 0; i < n; ++i) scratch.y[i] = up_out.row(to + i) + begin;
      multiply(*up, begin, n_rows, inputs, scratch.y, n, scratch.matmul);
    }
    if (gate == nullptr || up == nullptr) return;
    for (int64_t i = 0; i < n; ++i) {
      float* out = gate_out.row(to + i) + begin;
      pass.kernels.swiglu(out, scratch.y[i], n_rows, out);
      gate_out.quantize(pass.kernels, to + i, begin, n_rows);
    }
  }

  const MoeWeights& w_;
  GateUpParts parts_;
  int64_t expert_ff_;
  int64_t shared_ff_;
  int64_t block_;
};

class Swiglu final : public Step {
 public:
  Swiglu(int64_t rows_per_token, bool shared) : rows_per_token_(rows_per_token), shared_(shared) {}

  void run(Pass& pass) const override {
    const Rows& gate = shared_ ? pass.ws.shared_gate : pass.ws.gate;
    const Rows& up = shared_ ? pass.ws.shared_up : pass.ws.up;
    pass.for_each_row(pass.n_rows * rows_per_token_, [&](int64_t row) {
      pass.kernels.swiglu(gate.row(row), up.row(row), gate.n_cols, gate.row(row));
      gate.quantize(pass.kernels, row, 0, gate.n_cols);
    });
  }

 private:
  int64_t rows_per_token_;
  bool shared_;
};

class AddDelta final : public Step {
 public:
  void run(Pass& pass) const override {
    const Workspace& ws = pass.ws;
    pass.for_each_row(pass.n_rows, [&](int64_t row) {
      pass.kernels.axpy(1.0f, ws.delta.row(row), ws.delta.n_cols, ws.x.row(row));
    });
  }
};

class Down final : public Step {
 public:
  Down(int layer, const Hparams& h, const MoeWeights& weights, int n_threads, DownParts parts)
      : layer_(layer),
        w_(weights),
        parts_(parts),
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
    if (!parts_.into_delta) pass.probe_residual(layer_);
  }

 private:
  /// scratch.y: first the pairs in their order, then the rows of the shared expert.
  void multiply_all(Pass& pass, WorkerScratch& scratch, int64_t begin, int64_t n) const {
    Workspace& ws = pass.ws;
    const int64_t n_pairs = pass.n_rows * n_used_;
    for (int64_t i = 0; i < n_pairs + pass.n_rows; ++i) scratch.y[i] = scratch.block + i * kMaxBlockRows;
    const int64_t n_groups = parts_.experts ? ws.n_groups : 0;
    for (int64_t i = 0; i < n_groups; ++i) {
      const ExpertGroup& group = ws.groups[static_cast<size_t>(i)];
      multiply(w_.down.of(group.expert), begin, n, ws.gate.inputs(group.begin), scratch.y + group.begin,
               group.end - group.begin, scratch.matmul);
    }
    if (!parts_.shared) return;
    multiply(w_.shared_down, begin, n, ws.shared_gate.inputs(), scratch.y + n_pairs, pass.n_rows,
             scratch.matmul);
  }

  void add_row(Pass& pass, WorkerScratch& scratch, int64_t row, int64_t begin, int64_t n) const {
    const Workspace& ws = pass.ws;
    float* sum = scratch.block_sum;
    std::fill_n(sum, n, 0.0f);
    for (int64_t pair = row * n_used_; parts_.experts && pair < (row + 1) * n_used_; ++pair)
      pass.kernels.axpy(ws.chosen_weight[pair], scratch.y[ws.pair_position[pair]], n, sum);
    if (parts_.shared)
      pass.kernels.axpy(ws.shared_weight[row], scratch.y[pass.n_rows * n_used_ + row], n, sum);
    if (parts_.into_delta)
      std::copy_n(sum, n, ws.delta.row(row) + begin);
    else
      pass.kernels.axpy(1.0f, sum, n, ws.x.row(row) + begin);
  }

  int layer_;
  const MoeWeights& w_;
  DownParts parts_;
  int64_t hidden_;
  int64_t n_used_;
  int64_t block_;
};

}  // namespace

std::unique_ptr<Step> make_router(int layer, const Hparams& hparams, const std::vector<float>& norm,
                                  const MoeWeights& weights, int n_threads) {
  return std::make_unique<Router>(layer, hparams, norm, weights, n_threads);
}

std::unique_ptr<Step> make_pairs(const Hparams& hparams, const MoeWeights& weights, bool experts,
                                 bool shared) {
  return std::make_unique<Pairs>(hparams, weights, experts, shared);
}

std::unique_ptr<Step> make_gate_up(const Hparams& hparams, const MoeWeights& weights, int n_threads,
                                   GateUpParts parts) {
  return std::make_unique<GateUp>(hparams, weights, n_threads, parts);
}

std::unique_ptr<Step> make_swiglu(const Hparams& hparams, bool shared) {
  return std::make_unique<Swiglu>(shared ? 1 : hparams.n_experts_used, shared);
}

std::unique_ptr<Step> make_down(int layer, const Hparams& hparams, const MoeWeights& weights, int n_threads,
                                DownParts parts) {
  return std::make_unique<Down>(layer, hparams, weights, n_threads, parts);
}

std::unique_ptr<Step> make_add_delta() {
  return std::make_unique<AddDelta>();
}

}  // namespace packmule::model
