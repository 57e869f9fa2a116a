// Shapes and sizes of what one sequence keeps: KV pages and recurrent state.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "quant/format.h"

namespace packmule::cache {

inline constexpr int64_t kPageTokens = 64;

struct Layout {
  std::vector<bool> recurrent;  // per layer: DeltaNet (true) or attention
  std::vector<bool> on_device;  // per layer: its cache is a device's (cache/device_memory.h); empty: none is
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  quant::Type k_type = quant::Type::kF16;
  quant::Type v_type = quant::Type::kF16;
  int64_t conv_channels = 0;
  int64_t conv_taps = 4;
  int64_t n_v_heads = 0;
  int64_t dk = 0;
  int64_t dv = 0;

  /// The cache formats must divide the head: an error names the format and the head size that do not fit.
  [[nodiscard]] Status validate() const;
  [[nodiscard]] int64_t n_attention_layers() const;
  [[nodiscard]] bool is_on_device(size_t layer) const { return layer < on_device.size() && on_device[layer]; }
  [[nodiscard]] bool has_device_layers() const;
  [[nodiscard]] bool has_device_attention() const;
  /// KV of one token in the layers of one side.
  [[nodiscard]] int64_t kv_bytes_per_token(bool device) const;
  [[nodiscard]] int64_t k_row_bytes() const;  // one token, one KV head
  [[nodiscard]] int64_t v_row_bytes() const;
  [[nodiscard]] int64_t kv_bytes_per_token() const;  // all layers
  [[nodiscard]] int64_t recurrent_bytes() const;     // of one sequence, S and convolution
  bool operator==(const Layout&) const = default;
};

}  // namespace packmule::cache
