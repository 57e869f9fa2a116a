// A hash table from a pair of 32-bit numbers to a third: open addressing, filled once, then only read.
//
// The merges of a tokenizer and the edges of a trie are both such maps, and both are looked up for every byte
// of a text, which is why this is not std::unordered_map.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace packmule::text {

class PairTable {
 public:
  static constexpr uint32_t kNone = 0xffffffffu;  // not a storable value

  /// Room for n_pairs insertions.
  explicit PairTable(size_t n_pairs = 0) : slots_(std::bit_ceil(2 * n_pairs + 2)) {
    shift_ = 64 - std::countr_zero(slots_.size());
  }

  /// The value of the pair after the call: `value`, or the one it already had.
  uint32_t insert(uint32_t left, uint32_t right, uint32_t value) {
    Slot& slot = slots_[slot_of(left, right)];
    if (slot.value == kNone) slot = {left, right, value};
    return slot.value;
  }

  [[nodiscard]] uint32_t find(uint32_t left, uint32_t right) const {
    return slots_[slot_of(left, right)].value;
  }

 private:
  struct Slot {
    uint32_t left = 0;
    uint32_t right = 0;
    uint32_t value = kNone;  // kNone: empty
  };

  [[nodiscard]] size_t slot_of(uint32_t left, uint32_t right) const {
    const uint64_t key = (uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15u;
    size_t at = (key ^ key >> 29) * 0xBF58476D1CE4E5B9u >> shift_;
    while (slots_[at].value != kNone && (slots_[at].left != left || slots_[at].right != right))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;  // a power of two, at most half full
  int shift_ = 0;
};

}  // namespace packmule::text
