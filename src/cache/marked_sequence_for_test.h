// A stand-in for the model: it writes into every row and state what the tokens before it determine, so that a
// sequence can be looked at as a whole.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "cache/sequence.h"

namespace packmule::cache {

using Ids = std::vector<int32_t>;

inline Layout small_layout() {
  Layout layout;
  layout.recurrent = {true, false, true};
  layout.n_kv_heads = 2;
  layout.head_dim = 32;
  layout.k_type = quant::Type::kQ8_0;
  layout.v_type = quant::Type::kF16;
  layout.conv_channels = 4;
  layout.conv_taps = 4;
  layout.n_v_heads = 1;
  layout.dk = 2;
  layout.dv = 4;
  return layout;
}

inline float mark(std::span<const int32_t> tokens) {
  uint32_t hash = 2166136261u;
  for (const int32_t token : tokens) hash = (hash ^ static_cast<uint32_t>(token)) * 16777619u;
  return static_cast<float>(hash >> 10);
}

/// A row's first bytes hold the mark of all tokens up to its own.
inline void extend(Sequence& sequence, std::span<const int32_t> all, int64_t n_tokens) {
  ASSERT_TRUE(sequence.reserve(n_tokens - sequence.n_tokens()).has_value());
  for (int64_t t = sequence.n_tokens(); t < n_tokens; ++t) {
    const float value = mark(all.first(static_cast<size_t>(t) + 1));
    for (int64_t head = 0; head < 2; ++head) {
      std::memcpy(sequence.k_row(1, head, t), &value, sizeof value);
      std::memcpy(sequence.v_row(1, head, t), &value, sizeof value);
    }
  }
  sequence.advance(n_tokens - sequence.n_tokens());
  for (const int layer : {0, 2}) {
    sequence.state(layer)[7] = mark(all.first(static_cast<size_t>(n_tokens))) + static_cast<float>(layer);
    sequence.conv_history(layer)[11] = sequence.state(layer)[7];
  }
}

inline int64_t n_wrong(const Sequence& sequence, std::span<const int32_t> all) {
  int64_t wrong = 0;
  for (int64_t t = 0; t < sequence.n_tokens(); ++t) {
    const float expected = mark(all.first(static_cast<size_t>(t) + 1));
    for (int64_t head = 0; head < 2; ++head)
      for (const auto& [pages, row_bytes] :
           {std::pair(sequence.k_pages(1, head), sequence.layout().k_row_bytes()),
            std::pair(sequence.v_pages(1, head), sequence.layout().v_row_bytes())}) {
        float found = 0;
        const auto* page = static_cast<const std::byte*>(pages[static_cast<size_t>(t / kPageTokens)]);
        std::memcpy(&found, page + t % kPageTokens * row_bytes, sizeof found);
        wrong += found != expected;
      }
  }
  const float expected =
      sequence.n_tokens() == 0 ? 0 : mark(all.first(static_cast<size_t>(sequence.n_tokens())));
  for (const int layer : {0, 2}) {
    const float bias = sequence.n_tokens() == 0 ? 0 : static_cast<float>(layer);
    wrong += sequence.state(layer)[7] != expected + bias;
    wrong += sequence.conv_history(layer)[11] != expected + bias;
  }
  return wrong;
}

}  // namespace packmule::cache
