// Byte-pair merging of one piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/pair_table.h"

namespace packmule::text {

/// The merges of a vocabulary. A lower rank is merged earlier. Immutable once filled.
class MergeTable {
 public:
  explicit MergeTable(size_t n_merges) : rank_of_(n_merges) { merged_.reserve(n_merges); }

  /// Adds the next merge in rank order. Returns the rank of an earlier merge of the same pair, or -1.
  int64_t add(int32_t left, int32_t right, int32_t merged);

  /// PairTable::kNone when the pair does not merge.
  [[nodiscard]] uint32_t rank(int32_t left, int32_t right) const {
    return rank_of_.find(static_cast<uint32_t>(left), static_cast<uint32_t>(right));
  }
  [[nodiscard]] int32_t merged(uint32_t rank) const { return merged_[rank]; }

 private:
  PairTable rank_of_;
  std::vector<int32_t> merged_;  // [rank]
};

/// Working memory of merging, reused from piece to piece.
class BpeMerger {
 public:
  explicit BpeMerger(const MergeTable& merges) : merges_(merges) {}

  /// Merges the tokens of `symbols` until no pair of neighbours merges, always the pair of the lowest rank
  /// first and the leftmost of equals, and appends the result to `out`. O(n log n).
  void merge(const std::vector<int32_t>& symbols, std::vector<int32_t>& out);

 private:
  struct Symbol {
    int32_t id;
    uint32_t previous;
    uint32_t next;
    uint32_t pair_rank;  // of this symbol and the next one
  };
  void push(uint32_t at);
  [[nodiscard]] uint64_t pop();

  const MergeTable& merges_;
  std::vector<Symbol> chain_;    // a linked list in place: merging unlinks the right one of a pair
  std::vector<uint64_t> queue_;  // binary heap of rank << 32 | index of the left symbol
};

}  // namespace packmule::text
