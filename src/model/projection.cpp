#include "model/projection.h"

#include <algorithm>

namespace packmule::model {
namespace {

/// Several items for each thread: one that loses its core for a while is not waited for long.
constexpr int64_t kItemsPerThread = 8;
constexpr int64_t kMinBlockRows = 16;

struct RowBlock {
  const Projection* projection = nullptr;
  int64_t begin = 0;
  int64_t n = 0;
};

void normalise(Pass& pass, const std::vector<float>& norm, float eps) {
  Workspace& ws = pass.ws;
  pass.for_each_row(pass.n_rows, [&](int64_t row) {
    pass.kernels.rms_norm(ws.x.row(row), norm.data(), eps, ws.h.n_cols, ws.h.row(row));
    ws.h.quantize(pass.kernels, row, 0, ws.h.n_cols);
  });
}

class InputProjections final : public Step {
 public:
  InputProjections(const std::vector<float>* norm, float eps,
                   const std::vector<const Projection*>& projections, int n_threads)
      : norm_(norm), eps_(eps) {
    int64_t total = 0;
    for (const Projection* projection : projections) total += projection->matrix.n_rows;
    const int64_t block = block_rows(total, n_threads);
    for (const Projection* projection : projections)
      for (int64_t begin = 0; begin < projection->matrix.n_rows; begin += block)
        blocks_.push_back({projection, begin, std::min(block, projection->matrix.n_rows - begin)});
  }

  void run(Pass& pass) const override {
    Workspace& ws = pass.ws;
    if (norm_ != nullptr) normalise(pass, *norm_, eps_);
    pass.pool.run(static_cast<int64_t>(blocks_.size()), [&](int64_t item, int worker) {
      const RowBlock& block = blocks_[static_cast<size_t>(item)];
      WorkerScratch& scratch = ws.workers[static_cast<size_t>(worker)];
      for (int64_t t = 0; t < pass.n_rows; ++t)
        scratch.y[t] = ws.in.row(t) + block.projection->column + block.begin;
      multiply(block.projection->matrix, block.begin, block.n, ws.h.inputs(), scratch.y, pass.n_rows,
               scratch.matmul);
    });
  }

 private:
  const std::vector<float>* norm_;
  float eps_;
  std::vector<RowBlock> blocks_;
};

class NormStep final : public Step {
 public:
  NormStep(const std::vector<float>& norm, float eps) : norm_(norm), eps_(eps) {}
  void run(Pass& pass) const override { normalise(pass, norm_, eps_); }

 private:
  const std::vector<float>& norm_;
  float eps_;
};

class OutputProjection final : public Step {
 public:
  OutputProjection(const Matrix& matrix, int n_threads)
      : matrix_(matrix), block_(block_rows(matrix.n_rows, n_threads)) {}

  void run(Pass& pass) const override {
    Workspace& ws = pass.ws;
    pass.for_each_row(pass.n_rows,
                      [&](int64_t row) { ws.mixed.quantize(pass.kernels, row, 0, ws.mixed.n_cols); });
    pass.pool.run((matrix_.n_rows + block_ - 1) / block_, [&](int64_t item, int worker) {
      WorkerScratch& scratch = ws.workers[static_cast<size_t>(worker)];
      const int64_t begin = item * block_;
      const int64_t n = std::min(block_, matrix_.n_rows - begin);
      for (int64_t t = 0; t < pass.n_rows; ++t) scratch.y[t] = scratch.block + t * kMaxBlockRows;
      multiply(matrix_, begin, n, ws.mixed.inputs(), scratch.y, pass.n_rows, scratch.matmul);
      for (int64_t t = 0; t < pass.n_rows; ++t) pass.kernels.axpy(1.0f, scratch.y[t], n, ws.x.row(t) + begin);
    });
  }

 private:
  const Matrix& matrix_;
  int64_t block_;
};

class Head final : public Step {
 public:
  Head(const std::vector<float>& norm, float eps, const Matrix& matrix, int n_threads)
      : norm_(norm), eps_(eps), matrix_(matrix), block_(block_rows(matrix.n_rows, n_threads)) {}

  void run(Pass& pass) const override {
    Workspace& ws = pass.ws;
    const auto n_wanted = static_cast<int64_t>(pass.logit_rows.size());
    if (n_wanted == 0) return;
    pass.for_each_row(n_wanted, [&](int64_t i) {
      const float* x = ws.x.row(pass.logit_rows[static_cast<size_t>(i)]);
      pass.kernels.rms_norm(x, norm_.data(), eps_, ws.h.n_cols, ws.h.row(i));
      ws.h.quantize(pass.kernels, i, 0, ws.h.n_cols);
    });
    pass.pool.run((matrix_.n_rows + block_ - 1) / block_, [&](int64_t item, int worker) {
      WorkerScratch& scratch = ws.workers[static_cast<size_t>(worker)];
      const int64_t begin = item * block_;
      for (int64_t i = 0; i < n_wanted; ++i) scratch.y[i] = ws.logits + i * matrix_.n_rows + begin;
      multiply(matrix_, begin, std::min(block_, matrix_.n_rows - begin), ws.h.inputs(), scratch.y, n_wanted,
               scratch.matmul);
    });
  }

 private:
  const std::vector<float>& norm_;
  float eps_;
  const Matrix& matrix_;
  int64_t block_;
};

class Embedding final : public Step {
 public:
  explicit Embedding(const Matrix& matrix) : matrix_(matrix) {}

  void run(Pass& pass) const override {
    const quant::DecodeFn decode = pass.kernels.decode[static_cast<size_t>(matrix_.format->type)];
    pass.for_each_row(pass.n_rows, [&](int64_t row) {
      float* x = pass.ws.x.row(row);
      decode(matrix_.data + pass.tokens[static_cast<size_t>(row)] * matrix_.row_bytes, x, matrix_.n_cols);
      if (matrix_.scale != 1.0f)
        for (int64_t i = 0; i < matrix_.n_cols; ++i) x[i] *= matrix_.scale;
    });
    pass.probe_residual(-1);
  }

 private:
  const Matrix& matrix_;
};

}  // namespace

int64_t block_rows(int64_t n_rows, int n_threads) {
  const int64_t even = n_rows / (kItemsPerThread * n_threads) / kMinBlockRows * kMinBlockRows;
  return std::clamp(even, kMinBlockRows, kMaxBlockRows);
}

void multiply(const Matrix& matrix, int64_t begin, int64_t n, const Inputs& inputs, float* const* y,
              int64_t n_tokens, float* scratch) {
  kernels::MatmulArgs args;
  args.weights = matrix.data + begin * matrix.row_bytes;
  args.row_bytes = matrix.row_bytes;
  args.row_end = n;
  args.n_cols = matrix.n_cols;
  args.x = inputs.x;
  args.quantized = inputs.quantized;
  args.y = y;
  args.n_tokens = n_tokens;
  args.scale = matrix.scale;
  args.scratch = scratch;
  (matrix.in_strips ? matrix.matmul.strips : matrix.matmul.rows)(args);
}

std::unique_ptr<Step> make_input_projections(const std::vector<float>* norm, float eps,
                                             const std::vector<const Projection*>& projections,
                                             int n_threads) {
  return std::make_unique<InputProjections>(norm, eps, projections, n_threads);
}

std::unique_ptr<Step> make_norm(const std::vector<float>& norm, float eps) {
  return std::make_unique<NormStep>(norm, eps);
}

std::unique_ptr<Step> make_output_projection(const Matrix& matrix, int n_threads) {
  return std::make_unique<OutputProjection>(matrix, n_threads);
}

std::unique_ptr<Step> make_head(const std::vector<float>& norm, float eps, const Matrix& matrix,
                                int n_threads) {
  return std::make_unique<Head>(norm, eps, matrix, n_threads);
}

std::unique_ptr<Step> make_embedding(const Matrix& embedding) {
  return std::make_unique<Embedding>(embedding);
}

}  // namespace packmule::model
