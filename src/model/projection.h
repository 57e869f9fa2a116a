// Matrix products cut into row blocks, and the three steps made of little else: the input projections of a
// mixer, the projection back to the residual stream, and the output head.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "model/schedule.h"
#include "model/weights.h"

namespace packmule::model {

/// Rows of a block, so that `n_rows` make several times more items than threads: 16 to kMaxBlockRows.
[[nodiscard]] int64_t block_rows(int64_t n_rows, int n_threads);

/// y[t][i] = row (begin + i) of the matrix times x[t], for i in [0, n).
void multiply(const Matrix& matrix, int64_t begin, int64_t n, const Inputs& inputs, float* const* y,
              int64_t n_tokens, float* scratch);

/// h = norm(x), unless `norm` is null: then h is there already; in[column ...] = matrix h for each
/// projection.
[[nodiscard]] std::unique_ptr<Step> make_input_projections(const std::vector<float>* norm, float eps,
                                                           const std::vector<const Projection*>& projections,
                                                           int n_threads);
/// h = norm(x)
[[nodiscard]] std::unique_ptr<Step> make_norm(const std::vector<float>& norm, float eps);
/// x += matrix mixed
[[nodiscard]] std::unique_ptr<Step> make_output_projection(const Matrix& matrix, int n_threads);
/// logits = matrix norm(x), of the rows asked for.
[[nodiscard]] std::unique_ptr<Step> make_head(const std::vector<float>& norm, float eps, const Matrix& matrix,
                                              int n_threads);
/// x = the tokens' rows of the embedding.
[[nodiscard]] std::unique_ptr<Step> make_embedding(const Matrix& embedding);

}  // namespace packmule::model
