// How the attention kernels use their scratch; attention_scratch_floats() adds it up.
#pragma once

#include <cstdint>

namespace packmule::kernels {
namespace {

/// Tokens of K or V that are decoded at once: as floats they fill half of a first-level cache of 32 KiB.
constexpr int64_t kAttentionTile = 16;

/// Scores over one page, padded to the widest vector.
constexpr int64_t attention_score_floats(int64_t page_tokens) {
  return (page_tokens + 15) / 16 * 16;
}

/// A tile of K or V decoded to float32, each query's scores over one page and weighted sum of its V, its
/// running maximum and sum, and the factor for what it summed before. The reference decodes row by row and
/// keeps its sums in double: 3 rows, which lie where the tile does.
constexpr int64_t attention_scratch_total(int64_t n_q, int64_t head_dim, int64_t page_tokens) {
  return kAttentionTile * head_dim + n_q * (attention_score_floats(page_tokens) + head_dim + 3);
}

}  // namespace
}  // namespace packmule::kernels
