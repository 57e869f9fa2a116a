// How the attention kernels use their scratch; attention_scratch_floats() adds it up.
#pragma once

#include <cstdint>

namespace packmule::kernels {
namespace {

/// Queries whose scores over one page are held at once (a variant may take fewer).
constexpr int64_t kAttentionQueries = 4;

/// Scores over one page, padded to the widest vector.
constexpr int64_t attention_score_floats(int64_t page_tokens) {
  return (page_tokens + 15) / 16 * 16;
}

/// One page of K and of V decoded to float32, the scores of a block of queries, and each query's running
/// maximum and sum. The reference decodes row by row and keeps its sums in double: 3 rows, which the extra
/// row of K and of V makes room for.
constexpr int64_t attention_scratch_total(int64_t n_q, int64_t head_dim, int64_t page_tokens) {
  return 2 * (page_tokens + 1) * head_dim + kAttentionQueries * attention_score_floats(page_tokens) + 2 * n_q;
}

}  // namespace
}  // namespace packmule::kernels
