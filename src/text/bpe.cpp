#include "text/bpe.h"

#include <algorithm>
#include <functional>

namespace packmule::text {
namespace {

constexpr uint32_t kEnd = 0xffffffffu;

}  // namespace

int64_t MergeTable::add(int32_t left, int32_t right, int32_t merged) {
  const auto rank = static_cast<uint32_t>(merged_.size());
  const uint32_t stored = rank_of_.insert(static_cast<uint32_t>(left), static_cast<uint32_t>(right), rank);
  merged_.push_back(merged);
  return stored == rank ? -1 : static_cast<int64_t>(stored);
}

void BpeMerger::push(uint32_t at) {
  Symbol& symbol = chain_[at];
  symbol.pair_rank = symbol.next == kEnd ? PairTable::kNone : merges_.rank(symbol.id, chain_[symbol.next].id);
  if (symbol.pair_rank == PairTable::kNone) return;
  queue_.push_back(uint64_t{symbol.pair_rank} << 32 | at);
  std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
}

uint64_t BpeMerger::pop() {
  std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
  const uint64_t top = queue_.back();
  queue_.pop_back();
  return top;
}

void BpeMerger::merge(const std::vector<int32_t>& symbols, std::vector<int32_t>& out) {
  chain_.clear();
  queue_.clear();
  const auto n = static_cast<uint32_t>(symbols.size());
  for (uint32_t i = 0; i < n; ++i)
    chain_.push_back({symbols[i], i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1, PairTable::kNone});
  for (uint32_t i = 0; i + 1 < n; ++i) {
    chain_[i].pair_rank = merges_.rank(symbols[i], symbols[i + 1]);
    if (chain_[i].pair_rank != PairTable::kNone) queue_.push_back(uint64_t{chain_[i].pair_rank} << 32 | i);
  }
  std::make_heap(queue_.begin(), queue_.end(), std::greater<>());

  while (!queue_.empty()) {
    const uint64_t top = pop();
    const auto rank = static_cast<uint32_t>(top >> 32);
    const auto at = static_cast<uint32_t>(top);
    // An entry outlives its pair when a neighbour was merged away first; the rank then no longer fits.
    Symbol& left = chain_[at];
    if (left.pair_rank != rank) continue;
    Symbol& right = chain_[left.next];
    left.id = merges_.merged(rank);
    left.next = right.next;
    if (right.next != kEnd) chain_[right.next].previous = at;
    right.pair_rank = PairTable::kNone;
    push(at);
    if (left.previous != kEnd) push(left.previous);
  }
  if (n == 0) return;
  for (uint32_t at = 0; at != kEnd; at = chain_[at].next) out.push_back(chain_[at].id);
}

}  // namespace packmule::text
