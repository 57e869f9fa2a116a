#include "grammar/token_trie.h"

#include <algorithm>

namespace packmule::grammar {

TokenTrie::TokenTrie(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end());
  values_.reserve(entries.size());
  std::vector<uint32_t> path;  // the nodes of the current string
  std::string_view last;
  for (const auto& [text, value] : entries) {
    size_t same = 0;
    while (same < std::min(text.size(), last.size()) && text[same] == last[same]) ++same;
    while (path.size() > same) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
      path.pop_back();
    }
    for (size_t i = same; i < text.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.byte = static_cast<uint8_t>(text[i]),
                        .depth = static_cast<uint16_t>(i),
                        .values_begin = static_cast<uint32_t>(values_.size())});
    }
    values_.push_back(value);
    last = text;
  }
  for (const uint32_t node : path) nodes_[node].end = static_cast<uint32_t>(nodes_.size());
}

}  // namespace packmule::grammar
