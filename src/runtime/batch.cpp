#include "runtime/batch.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "vulkan/commands.h"

namespace packmule::runtime {

void ShapeKeys::find(DeviceBatch& batch) {
  key_.clear();
  key_.insert(key_.end(), {batch.n_rows, batch.n_logits});
  for (const DeviceSlice& slice : batch.slices) {
    key_.insert(key_.end(), {slice.row, slice.n_rows, slice.state == nullptr ? 0 : slice.state->id,
                             slice.n_entries, static_cast<int64_t>(slice.stretches.size())});
    for (const Stretch& stretch : slice.stretches)
      key_.insert(key_.end(), {stretch.end, stretch.keep == nullptr ? 0 : stretch.keep->id});
  }
  auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key_; });
  if (entry == entries_.end()) {
    if (entries_.size() < kMost)
      entry = entries_.insert(entries_.end(), Entry{});
    else
      entry = std::min_element(entries_.begin(), entries_.end(),
                               [](const Entry& a, const Entry& b) { return a.last_use < b.last_use; });
    entry->key = key_;
    entry->generation = ++last_generation_;
  }
  entry->last_use = ++clock_;
  batch.shape = static_cast<size_t>(entry - entries_.begin());
  batch.generation = entry->generation;
}

BatchTables::BatchTables(int64_t n_tokens, int64_t n_logits, int64_t n_angles, int64_t n_pages)
    : n_angles_(n_angles), n_pages_(n_pages) {
  const auto place = [this](int64_t& at, int64_t n) {
    at = at_.end;
    at_.end += (4 * n + 15) / 16 * 16;
  };
  place(at_.tokens, n_tokens);
  place(at_.logit_rows, n_logits);
  place(at_.positions, n_tokens);
  place(at_.visible, n_tokens);
  place(at_.cosines, n_tokens * n_angles);
  place(at_.sines, n_tokens * n_angles);
}

Status BatchTables::allocate(const Gpu& gpu) {
  using vulkan::Buffer;
  PACKMULE_TRY(upload_, Buffer::create(gpu.device(), Buffer::Kind::kUpload, at_.end, "tables of a batch"));
  PACKMULE_TRY(device_, Buffer::create(gpu.device(), Buffer::Kind::kDevice, at_.end, "tables of a batch"));
  return allocate_pages(gpu);
}

Status BatchTables::allocate_pages(const Gpu& gpu) {
  using vulkan::Buffer;
  shapes_.forget_all();  // recorded commands hold the old addresses
  PACKMULE_TRY(page_upload_,
               Buffer::create(gpu.device(), Buffer::Kind::kUpload, 8 * n_pages_, "page tables"));
  PACKMULE_TRY(page_table_, Buffer::create(gpu.device(), Buffer::Kind::kDevice, 8 * n_pages_, "page tables"));
  return {};
}

Status BatchTables::fill(const Gpu& gpu, DeviceBatch& batch, const Source& source) {
  int64_t n_entries = 0;
  for (DeviceSlice& slice : batch.slices) {
    slice.first_entry = n_entries;
    slice.n_entries = static_cast<int64_t>(std::bit_ceil(std::max<size_t>(1, slice.pages.size())));
    n_entries += slice.n_entries;
  }
  if (n_entries > n_pages_) {
    n_pages_ = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n_entries)));
    PACKMULE_TRY_STATUS(allocate_pages(gpu));
  }
  shapes_.find(batch);

  std::byte* const to = upload_.mapped().data();
  const auto write = [to](int64_t at, const void* from, size_t n_bytes) {
    if (n_bytes > 0) std::memcpy(to + at, from, n_bytes);
  };
  write(at_.tokens, source.tokens.data(), source.tokens.size_bytes());
  write(at_.logit_rows, source.logit_rows.data(), source.logit_rows.size_bytes());
  const auto angle_bytes = static_cast<size_t>(4 * batch.n_rows * n_angles_);
  write(at_.cosines, source.cosines, angle_bytes);
  write(at_.sines, source.sines, angle_bytes);
  auto* positions = reinterpret_cast<int32_t*>(to + at_.positions);
  auto* visible = reinterpret_cast<int32_t*>(to + at_.visible);
  const auto entries = page_upload_.as<uint64_t>();
  for (const DeviceSlice& slice : batch.slices) {
    for (int64_t i = 0; i < slice.n_rows; ++i) {
      positions[slice.row + i] = static_cast<int32_t>(slice.position + i);
      visible[slice.row + i] = static_cast<int32_t>(slice.position + i + 1);
    }
    const bool has_pages = slice.state != nullptr && slice.state->owner->has_pages();
    for (size_t i = 0; has_pages && i < slice.pages.size(); ++i)
      entries[static_cast<size_t>(slice.first_entry) + i] = slice.state->owner->page_address(slice.pages[i]);
  }
  return {};
}

void BatchTables::record_copy(vulkan::Recorder& recorder, const DeviceBatch& batch) const {
  const auto copy = [&](int64_t at, int64_t n) {
    recorder.copy(upload_.span().part(at, 4 * n), device_.span().part(at, 4 * n));
  };
  copy(at_.tokens, batch.n_rows);
  copy(at_.logit_rows, batch.n_logits);
  copy(at_.positions, batch.n_rows);
  copy(at_.visible, batch.n_rows);
  copy(at_.cosines, batch.n_rows * n_angles_);
  copy(at_.sines, batch.n_rows * n_angles_);
  int64_t n_entries = 0;
  for (const DeviceSlice& slice : batch.slices) n_entries += slice.n_entries;
  recorder.copy(page_upload_.span().part(0, 8 * n_entries), page_table_.span().part(0, 8 * n_entries));
}

}  // namespace packmule::runtime
