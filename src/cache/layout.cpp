#include "cache/layout.h"

#include <algorithm>

namespace packmule::cache {
namespace {

int64_t row_bytes_of(quant::Type type, int64_t n_elems) {
  return quant::row_bytes(quant::format_of(type), n_elems);
}

Status check_format(quant::Type type, const char* which, int64_t head_dim) {
  const quant::Format* format = quant::find_format(static_cast<uint32_t>(type));
  if (format == nullptr || !format->kv_cache)
    return fail(ErrorKind::kUnsupported, "{} cache: format {} cannot hold a KV cache; take f16", which,
                format == nullptr ? "unknown" : format->name);
  if (head_dim % format->block_elems != 0)
    return fail(
        ErrorKind::kUnsupported,
        "{} cache: format {} stores blocks of {} values, which do not divide the head size {}; take f16",
        which, format->name, format->block_elems, head_dim);
  return {};
}

}  // namespace

Status Layout::validate() const {
  if (n_attention_layers() > 0) {
    if (n_kv_heads < 1 || head_dim < 1)
      return fail(ErrorKind::kInvalidArgument, "KV cache: expected at least one head, found {} heads of {}",
                  n_kv_heads, head_dim);
    PACKMULE_TRY_STATUS(check_format(k_type, "K", head_dim));
    PACKMULE_TRY_STATUS(check_format(v_type, "V", head_dim));
  }
  if (n_attention_layers() < static_cast<int64_t>(recurrent.size()) &&
      (conv_channels < 1 || conv_taps < 2 || n_v_heads < 1 || dk < 1 || dv < 1))
    return fail(ErrorKind::kInvalidArgument,
                "recurrent state: expected positive sizes, found {} channels, {} taps, {} heads of {} x {}",
                conv_channels, conv_taps, n_v_heads, dk, dv);
  return {};
}

int64_t Layout::n_attention_layers() const {
  return std::count(recurrent.begin(), recurrent.end(), false);
}

bool Layout::has_device_layers() const {
  return std::find(on_device.begin(), on_device.end(), true) != on_device.end();
}

bool Layout::has_device_attention() const {
  return kv_bytes_per_token(true) > 0;
}

int64_t Layout::kv_bytes_per_token(bool device) const {
  int64_t n_layers = 0;
  for (size_t layer = 0; layer < recurrent.size(); ++layer)
    n_layers += !recurrent[layer] && is_on_device(layer) == device ? 1 : 0;
  return n_layers > 0 ? n_layers * n_kv_heads * (k_row_bytes() + v_row_bytes()) : 0;
}

int64_t Layout::k_row_bytes() const {
  return row_bytes_of(k_type, head_dim);
}

int64_t Layout::v_row_bytes() const {
  return row_bytes_of(v_type, head_dim);
}

int64_t Layout::kv_bytes_per_token() const {
  return kv_bytes_per_token(false) + kv_bytes_per_token(true);
}

int64_t Layout::recurrent_bytes() const {
  const int64_t n_recurrent = static_cast<int64_t>(recurrent.size()) - n_attention_layers();
  const int64_t floats = n_v_heads * dk * dv + (conv_taps - 1) * conv_channels;
  return n_recurrent * floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace packmule::cache
