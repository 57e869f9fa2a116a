#include "vulkan/arena_layout.h"

#include <algorithm>
#include <numeric>

namespace packmule::vulkan {
namespace {

int64_t round_up(int64_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

}  // namespace

int ArenaLayout::add(std::string what, int64_t size_bytes) {
  items_.push_back({std::move(what), {.size_bytes = size_bytes}});
  return n_items() - 1;
}

Status ArenaLayout::pack(int64_t largest_arena) {
  const int64_t limit = std::min(largest_arena, kLargestArena) / kArenaAlignment * kArenaAlignment;
  arena_bytes_.clear();
  for (Item& item : items_) {
    const int64_t bytes = std::max(kArenaAlignment, round_up(item.place.size_bytes));
    if (bytes > limit)
      return fail(ErrorKind::kUnsupported,
                  "{} has {} bytes; a device takes at most {} in one piece: leave it on the CPU", item.what,
                  item.place.size_bytes, limit);
    if (arena_bytes_.empty() || arena_bytes_.back() + bytes > limit) arena_bytes_.push_back(0);
    item.place.arena = static_cast<int>(arena_bytes_.size()) - 1;
    item.place.offset = arena_bytes_.back();
    arena_bytes_.back() += bytes;
  }
  return {};
}

int64_t ArenaLayout::total_bytes() const {
  return std::accumulate(arena_bytes_.begin(), arena_bytes_.end(), int64_t{0});
}

}  // namespace packmule::vulkan
