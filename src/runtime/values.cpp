#include "runtime/values.h"

#include <utility>

namespace packmule::runtime {
namespace {

void take_place(int64_t& at, int64_t& total, int64_t n_bytes) {
  if (at >= 0) return;
  at = total;
  total += (n_bytes + vulkan::kArenaAlignment - 1) / vulkan::kArenaAlignment * vulkan::kArenaAlignment;
}

}  // namespace

Value& Values::add(std::string name, RowsOf rows_of, int64_t n_rows, int64_t n_cols) {
  Value& value = values_.emplace_back();
  value.name = std::move(name);
  value.rows_of = rows_of;
  value.n_rows = n_rows;
  value.n_cols = n_cols;
  return value;
}

void Values::use(Value& value) {
  if (value.item < 0) value.item = layout_.add("activations (" + value.name + ")", value.size_bytes());
}

void Values::use_upload(Value& value) {
  use(value);
  take_place(value.upload_at, upload_bytes_, value.size_bytes());
}

void Values::use_download(Value& value) {
  use(value);
  take_place(value.download_at, download_bytes_, value.size_bytes());
}

Result<int64_t> Values::device_bytes(const Gpu& gpu) const {
  vulkan::ArenaLayout plan = layout_;
  PACKMULE_TRY_STATUS(plan.pack(gpu.device()->largest_arena()));
  return plan.total_bytes();
}

Status Values::allocate(const Gpu& gpu) {
  PACKMULE_TRY(arenas_, vulkan::Arenas::allocate(gpu.device(), layout_, "activations"));
  using vulkan::Buffer;
  if (upload_bytes_ > 0) {
    PACKMULE_TRY(upload_, Buffer::create(gpu.device(), Buffer::Kind::kUpload, upload_bytes_, "activations"));
  }
  if (download_bytes_ > 0) {
    PACKMULE_TRY(download_,
                 Buffer::create(gpu.device(), Buffer::Kind::kReadback, download_bytes_, "activations"));
  }
  return {};
}

}  // namespace packmule::runtime
