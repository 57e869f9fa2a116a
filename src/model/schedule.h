// The compiled forward pass: a list of steps, made once when a model is loaded and run for every batch.
//
// A step is one fused phase of a layer. It was bound to its weights when it was made; running it hands its
// work items (row blocks of matrices, heads, token blocks) to the thread pool, one or a few jobs in a row.
// Which thread does which item never shows in the result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "cache/sequence.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/workspace.h"

namespace packmule::model {

/// The tokens of one sequence in a batch: batch rows [row, row + n_rows) at positions from `position` on.
struct SliceRows {
  cache::Sequence* sequence = nullptr;
  int64_t row = 0;
  int64_t n_rows = 0;
  int64_t position = 0;
  std::span<const Mark> marks;
};

/// Some rows of a slice whose queries are worked off together.
struct AttentionBlock {
  int32_t slice = 0;
  int64_t row = 0;  // of the batch
  int64_t n_rows = 0;
};

/// What the steps of one forward pass share. A batch row is one token.
struct Pass {
  const kernels::Kernels& kernels;
  ThreadPool& pool;
  Workspace& ws;
  int64_t n_rows = 0;
  std::span<const SliceRows> slices;
  std::span<const int32_t> tokens;                   // [n_rows]
  std::span<const int32_t> slice_of;                 // [n_rows]: index into slices
  std::span<const AttentionBlock> attention_blocks;  // of at most kAttentionTokens rows, covering all
  std::span<const int32_t> logit_rows;               // rows whose logits are wanted, ascending
  Probe* probe = nullptr;                            // sees what is on the host
  Status failure = {};                               // of a step on a device; the pass ends with it

  /// Cheap work on single rows, in blocks so large that a decode step does it on the calling thread, without
  /// waking the others.
  template <class Body>
  void for_each_row(int64_t count, Body&& body) {
    pool.run((count + kRowsPerItem - 1) / kRowsPerItem, [&](int64_t item, int) {
      const int64_t end = std::min(count, (item + 1) * kRowsPerItem);
      for (int64_t row = item * kRowsPerItem; row < end; ++row) body(row);
    });
  }

  void probe_residual(int layer) const {
    if (probe == nullptr) return;
    for (int64_t row = 0; row < n_rows; ++row)
      probe->residual(layer, row, {ws.x.row(row), static_cast<size_t>(ws.x.n_cols)});
  }

 private:
  static constexpr int64_t kRowsPerItem = 8;
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(Pass& pass) const = 0;
};

using Schedule = std::vector<std::unique_ptr<Step>>;

}  // namespace packmule::model
