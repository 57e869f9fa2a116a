// Byte strings as a tree, in the order of a walk: what the tokens of a vocabulary are matched with, so that
// beginnings they share are matched once and those that fail are skipped with all that goes on from them.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace packmule::grammar {

class TokenTrie {
 public:
  struct Node {
    uint8_t byte = 0;
    uint16_t depth = 0;  // of the byte: 0 is the first of a string
    uint32_t end = 0;    // the node behind all that go on from this one
    uint32_t values_begin =
        0;  // of the strings that end here and beyond; those up to the next node's end here
  };
  using Entry = std::pair<std::string_view, uint32_t>;  // not empty, shorter than 65536 bytes; a value

  TokenTrie() = default;
  explicit TokenTrie(std::vector<Entry> entries);

  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  /// Those of the strings that end at node i, or, `with_rest`, there or beyond.
  [[nodiscard]] std::pair<const uint32_t*, const uint32_t*> values(size_t i, bool with_rest = false) const {
    const size_t next = with_rest ? nodes_[i].end : i + 1;
    return {values_.data() + nodes_[i].values_begin,
            values_.data() + (next < nodes_.size() ? nodes_[next].values_begin : values_.size())};
  }
  [[nodiscard]] size_t size_bytes() const {
    return nodes_.size() * sizeof(Node) + values_.size() * sizeof(uint32_t);
  }

 private:
  std::vector<Node> nodes_;
  std::vector<uint32_t> values_;
};

}  // namespace packmule::grammar
