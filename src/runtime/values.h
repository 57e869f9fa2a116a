// The activations of a forward pass on a device, and the host-visible memory through which they come and go.
//
// A value is a matrix of 32-bit numbers, one row for each token, pair (token, slot) or row of logits, without
// gaps. It takes device memory when something on the device uses it, and a place in the staging buffers when
// it is moved: all of that is known when the schedule has been compiled, before anything is allocated.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/gpu.h"
#include "vulkan/memory.h"

namespace packmule::runtime {

/// What a value has one row for, in a batch.
enum class RowsOf { kTokens, kPairs, kLogits };

struct Value {
  std::string name;
  RowsOf rows_of = RowsOf::kTokens;
  int64_t n_rows = 0;  // of the largest batch
  int64_t n_cols = 0;
  int item = -1;                             // of the layout; -1: not on the device
  int64_t upload_at = -1, download_at = -1;  // in the staging buffers; -1: never moved that way

  [[nodiscard]] int64_t row_bytes() const { return 4 * n_cols; }
  [[nodiscard]] int64_t size_bytes() const { return n_rows * row_bytes(); }
};

class Values {
 public:
  /// Declares a value; the reference stays valid.
  Value& add(std::string name, RowsOf rows_of, int64_t n_rows, int64_t n_cols);
  void use(Value& value);           // something on the device reads or writes it
  void use_upload(Value& value);    // it is moved to the device
  void use_download(Value& value);  // it is moved to the host

  /// Device memory, and memory of both sides, that allocate() takes.
  [[nodiscard]] Result<int64_t> device_bytes(const Gpu& gpu) const;
  [[nodiscard]] int64_t staging_bytes() const { return upload_bytes_ + download_bytes_; }
  [[nodiscard]] Status allocate(const Gpu& gpu);

  // After allocate():
  [[nodiscard]] vulkan::Span span(const Value& value) const { return arenas_.span(value.item); }
  [[nodiscard]] vulkan::Rows rows(const Value& value) const { return {span(value), value.n_cols}; }
  /// From column `column` on.
  [[nodiscard]] vulkan::Rows columns(const Value& value, int64_t column) const {
    const vulkan::Span all = span(value);
    return {all.part(4 * column, all.size_bytes - 4 * column), value.n_cols};
  }
  [[nodiscard]] vulkan::Span upload_span(const Value& value) const {
    return upload_.span().part(value.upload_at, value.size_bytes());
  }
  [[nodiscard]] vulkan::Span download_span(const Value& value) const {
    return download_.span().part(value.download_at, value.size_bytes());
  }
  [[nodiscard]] std::byte* upload_memory(const Value& value) const {
    return upload_.mapped().data() + value.upload_at;
  }
  [[nodiscard]] const std::byte* download_memory(const Value& value) const {
    return download_.mapped().data() + value.download_at;
  }

 private:
  std::deque<Value> values_;
  vulkan::ArenaLayout layout_;
  vulkan::Arenas arenas_;
  int64_t upload_bytes_ = 0, download_bytes_ = 0;
  vulkan::Buffer upload_, download_;
};

}  // namespace packmule::runtime
