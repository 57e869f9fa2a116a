// Finding the added tokens of a vocabulary in a text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/pair_table.h"

namespace packmule::text {

/// A trie of token texts. Immutable once filled.
class SpecialTokens {
 public:
  struct Entry {
    std::string_view text;  // not empty
    int32_t id;
    bool control;
  };
  struct Match {
    size_t at = 0;
    size_t size_bytes = 0;  // 0: no match
    int32_t id = -1;
  };

  explicit SpecialTokens(const std::vector<Entry>& entries);

  /// The first token at or after `from`: the leftmost, and of those that start there the longest. Control
  /// tokens are passed over unless `with_control`, and also where they begin at one of the offsets
  /// `never_control` (ascending).
  [[nodiscard]] Match find(std::string_view text, size_t from, bool with_control,
                           std::span<const size_t> never_control = {}) const;

 private:
  struct Node {
    int32_t id = -1;  // of the token that ends here, or -1
    bool control = false;
  };
  PairTable edges_;          // (node, byte) -> node
  std::vector<Node> nodes_;  // 0 is the root
  std::array<bool, 256> first_byte_{};
};

}  // namespace packmule::text
