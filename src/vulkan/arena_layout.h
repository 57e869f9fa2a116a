// Where things lie in device memory: planned on paper first, so that a device refuses before it allocates.
//
// Drivers allow few and slow allocations, so all of a kind (weights, caches, work space) is cut out of arenas
// of at most 1 GiB: larger allocations fail on some drivers that promise more.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace packmule::vulkan {

inline constexpr int64_t kLargestArena = int64_t{1} << 30;
/// Every item starts at a multiple of this: what any driver asks of a buffer's memory and of copies into it.
inline constexpr int64_t kArenaAlignment = 256;

struct Place {
  int arena = 0;
  int64_t offset = 0;
  int64_t size_bytes = 0;
};

class ArenaLayout {
 public:
  /// Notes an item and returns its number; `what` names it in errors ("blk.3.ffn_up_exps.weight"). An item of
  /// no bytes gets a place of its own too, for it may be asked where it is.
  int add(std::string what, int64_t size_bytes);

  /// Cuts the items, in order, into arenas of at most `largest_arena` bytes (itself at most kLargestArena).
  /// An item larger than that is refused: a matrix cannot be in two arenas.
  [[nodiscard]] Status pack(int64_t largest_arena);

  [[nodiscard]] int n_items() const { return static_cast<int>(items_.size()); }
  // After pack():
  [[nodiscard]] const Place& place(int item) const { return items_[static_cast<size_t>(item)].place; }
  [[nodiscard]] const std::vector<int64_t>& arena_bytes() const { return arena_bytes_; }
  [[nodiscard]] int64_t total_bytes() const;  // of all arenas: exactly what is allocated

 private:
  struct Item {
    std::string what;
    Place place;
  };
  std::vector<Item> items_;
  std::vector<int64_t> arena_bytes_;
};

}  // namespace packmule::vulkan
