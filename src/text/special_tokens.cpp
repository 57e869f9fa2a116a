#include "text/special_tokens.h"

#include <algorithm>

namespace packmule::text {
namespace {

size_t total_bytes(const std::vector<SpecialTokens::Entry>& entries) {
  size_t sum = 0;
  for (const auto& entry : entries) sum += entry.text.size();
  return sum;
}

}  // namespace

SpecialTokens::SpecialTokens(const std::vector<Entry>& entries) : edges_(total_bytes(entries)), nodes_(1) {
  for (const Entry& entry : entries) {
    first_byte_[static_cast<uint8_t>(entry.text[0])] = true;
    uint32_t node = 0;
    for (const char c : entry.text) {
      const auto fresh = static_cast<uint32_t>(nodes_.size());
      node = edges_.insert(node, static_cast<uint8_t>(c), fresh);
      if (node == fresh) nodes_.emplace_back();
    }
    if (nodes_[node].id < 0) nodes_[node] = {entry.id, entry.control};
  }
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, size_t from, bool with_control,
                                         std::span<const size_t> never_control) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (!first_byte_[static_cast<uint8_t>(text[at])]) continue;
    const bool control_here =
        with_control && !std::binary_search(never_control.begin(), never_control.end(), at);
    Match longest;
    uint32_t node = 0;
    for (size_t end = at; end < text.size(); ++end) {
      node = edges_.find(node, static_cast<uint8_t>(text[end]));
      if (node == PairTable::kNone) break;
      if (nodes_[node].id >= 0 && (control_here || !nodes_[node].control))
        longest = {at, end + 1 - at, nodes_[node].id};
    }
    if (longest.size_bytes > 0) return longest;
  }
  return {};
}

}  // namespace packmule::text
