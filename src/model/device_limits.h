// How much of a batch the device works off at once, where its scratch memory bounds that.
#pragma once

#include <algorithm>
#include <cstdint>

#include "model/hparams.h"
#include "vulkan/ops.h"

namespace packmule::model {

/// Tokens of a batch on a device: dispatches have one dimension of tokens, and devices promise 65,535 groups.
inline constexpr int64_t kMostDeviceTokens = 32768;
/// Values of a key of the delta rule (delta_chunked.comp).
inline constexpr int64_t kMostDeltaKey = 256;
/// Tokens of a stretch that the chunked delta rule works off at once; whole chunks.
inline constexpr int64_t kDeltaTokensAtOnce = 512;
/// Query tokens that attention works off at once.
inline constexpr int64_t kAttentionTokensAtOnce = 256;
/// A few tokens leave a device idle unless their cache is worked on in parts: of so many pages, at most so
/// many.
inline constexpr int64_t kPagesOfAPart = 4, kMostParts = 32;

inline int64_t attention_parts(int64_t n_tokens, int64_t n_pages) {
  return n_tokens > vulkan::Ops::kFewTokens ? 1 : std::clamp<int64_t>(n_pages / kPagesOfAPart, 1, kMostParts);
}

inline int64_t attention_parts_floats(const Hparams& h) {
  const auto floats = [&](int64_t n_tokens, int64_t n_parts) {
    return vulkan::attention_parts_bytes(n_tokens, h.n_heads, h.head_dim, n_parts) / 4;
  };
  return std::max(floats(kAttentionTokensAtOnce, 1), floats(vulkan::Ops::kFewTokens, kMostParts));
}

}  // namespace packmule::model
