// A batch as a device sees it: its shape, for which commands are recorded, and the tables that hold what
// changes from batch to batch of one shape.
//
// The shape of decoding is the same from token to token, but for the size of the page table, which grows by
// doubling. So command lists are recorded once for a shape and found again by its key; the least recently
// used shapes make room for new ones.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/device_caches.h"
#include "runtime/gpu.h"
#include "vulkan/memory.h"

namespace packmule::runtime {

/// Tokens [begin, end) of a slice that the delta rule works off as one, and where the state behind them is
/// kept.
struct Stretch {
  int64_t begin = 0, end = 0;
  const DeviceCaches::DeviceState* keep = nullptr;
};

/// The tokens of one sequence: batch rows [row, row + n_rows) at `position` and on.
struct DeviceSlice {
  int64_t row = 0, n_rows = 0, position = 0;
  const DeviceCaches::DeviceState* state = nullptr;  // of the sequence; null when the device has no caches
  std::span<const int64_t> pages;                    // numbers
  std::vector<Stretch> stretches;
  // Found by BatchTables::fill():
  int64_t first_entry = 0;  // of its page table
  int64_t n_entries = 0;    // a power of two, at least the number of pages
};

struct DeviceBatch {
  int64_t n_rows = 0, n_logits = 0;
  std::vector<DeviceSlice> slices;
  // Found by BatchTables::fill():
  size_t shape = 0;         // number of its shape, less than ShapeKeys::kMost
  uint64_t generation = 0;  // of what that number stands for
};

/// Numbers for shapes.
class ShapeKeys {
 public:
  static constexpr size_t kMost = 24;
  /// Gives the batch its number. What was recorded under the number for another generation is of another
  /// shape.
  void find(DeviceBatch& batch);
  void forget_all() { entries_.clear(); }

 private:
  struct Entry {
    std::vector<int64_t> key;
    uint64_t generation = 0;
    uint64_t last_use = 0;
  };
  std::vector<Entry> entries_;
  std::vector<int64_t> key_;
  uint64_t clock_ = 0, last_generation_ = 0;
};

/// Token ids, rows of logits, positions, numbers of visible tokens, cosines and sines, page addresses:
/// written by the host before each batch and copied to the device's own memory by the batch's first commands.
class BatchTables {
 public:
  /// `n_pages`: page table entries that there is room for at first.
  BatchTables(int64_t n_tokens, int64_t n_logits, int64_t n_angles, int64_t n_pages);

  [[nodiscard]] int64_t size_bytes() const { return at_.end + 8 * n_pages_; }
  [[nodiscard]] Status allocate(const Gpu& gpu);

  struct Source {
    std::span<const int32_t> tokens, logit_rows;
    const float* cosines = nullptr;  // [n_rows, n_angles]
    const float* sines = nullptr;
  };
  /// Fills the host's side and finds the batch's shape. The device must not be reading the tables.
  [[nodiscard]] Status fill(const Gpu& gpu, DeviceBatch& batch, const Source& source);
  void record_copy(vulkan::Recorder& recorder, const DeviceBatch& batch) const;

  [[nodiscard]] vulkan::Span tokens() const { return part(at_.tokens); }
  [[nodiscard]] vulkan::Span logit_rows() const { return part(at_.logit_rows); }
  [[nodiscard]] vulkan::Span positions(int64_t row) const { return part(at_.positions + 4 * row); }
  [[nodiscard]] vulkan::Span visible(int64_t row) const { return part(at_.visible + 4 * row); }
  [[nodiscard]] vulkan::Span cosines() const { return part(at_.cosines); }
  [[nodiscard]] vulkan::Span sines() const { return part(at_.sines); }
  [[nodiscard]] vulkan::Span pages(const DeviceSlice& slice) const {
    return page_table_.span().part(8 * slice.first_entry, 8 * slice.n_entries);
  }

 private:
  [[nodiscard]] vulkan::Span part(int64_t at) const { return device_.span().part(at, at_.end - at); }
  [[nodiscard]] Status allocate_pages(const Gpu& gpu);

  int64_t n_angles_;
  int64_t n_pages_;
  struct {
    int64_t tokens = 0, logit_rows = 0, positions = 0, visible = 0, cosines = 0, sines = 0, end = 0;
  } at_;
  vulkan::Buffer upload_, device_, page_upload_, page_table_;
  ShapeKeys shapes_;
};

}  // namespace packmule::runtime
