// Attention and the delta rule on a device.
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "model/delta_net.h"
#include "model/device_layers.h"
#include "model/device_limits.h"
#include "vulkan/commands.h"

namespace packmule::model {

using runtime::DeviceBatch;
using runtime::DeviceSlice;
using runtime::Stretch;
using vulkan::Recorder;

namespace {
constexpr float kL2Eps = 1e-6f;  // of the model code, not in the file

/// The part of a matrix of rows that begins at a row.
vulkan::Rows from_row(const vulkan::Rows& rows, int64_t row) {
  const int64_t at = 4 * row * rows.stride;
  return {rows.span.part(at, rows.span.size_bytes - at), rows.stride};
}

size_t most_stretches(const DeviceBatch& batch) {
  size_t n = 0;
  for (const DeviceSlice& slice : batch.slices) n = std::max(n, slice.stretches.size());
  return n;
}

/// Copies a part of a layer's state behind stretch `i` of every slice, where it is to be kept.
void keep(Recorder& r, const DeviceBatch& batch, size_t i, int layer,
          vulkan::Span (runtime::DeviceCaches::*part)(const runtime::DeviceCaches::DeviceState&, int) const) {
  bool kept = false;
  for (const DeviceSlice& slice : batch.slices) {
    if (i >= slice.stretches.size() || slice.stretches[i].keep == nullptr) continue;
    const runtime::DeviceCaches& caches = *slice.state->owner;
    r.copy((caches.*part)(*slice.state, layer), (caches.*part)(*slice.stretches[i].keep, layer));
    kept = true;
  }
  if (kept) r.barrier();  // the next stretch writes what was copied
}
}  // namespace

DeviceLayers::Op DeviceLayers::attention(int layer, const AttentionWeights& w) {
  for (runtime::Value* value : {&in, &mixed, &q_, &parts_}) state_.values.use(*value);
  const int q_norm = weights_.add(w.q_norm, "attn_q_norm.weight");
  const int k_norm = weights_.add(w.k_norm, "attn_k_norm.weight");
  return [this, layer, q_norm, k_norm](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    const AttentionColumns columns(h_);
    const int64_t head = h_.head_dim;
    // A query lies before its gate; without gates queries go to rows of their own.
    const vulkan::HeadRows q{v.span(q_), q_.n_cols, head};
    const vulkan::HeadRows k{v.columns(in, columns.k).span, in.n_cols, head};
    PACKMULE_TRY_STATUS(ops_.norm(r, {.x = {v.columns(in, columns.q).span, in.n_cols, 2 * head},
                                      .y = q,
                                      .weight = weights_.span(q_norm),
                                      .n = head,
                                      .n_heads = h_.n_heads,
                                      .n_tokens = batch.n_rows,
                                      .eps = h_.rms_eps}));
    PACKMULE_TRY_STATUS(ops_.norm(r, {.x = k,
                                      .y = k,
                                      .weight = weights_.span(k_norm),
                                      .n = head,
                                      .n_heads = h_.n_kv_heads,
                                      .n_tokens = batch.n_rows,
                                      .eps = h_.rms_eps}));
    r.barrier();
    for (const auto& [x_rows, n_heads] : {std::pair(q, h_.n_heads), std::pair(k, h_.n_kv_heads)})
      PACKMULE_TRY_STATUS(ops_.rope(r, {.x = x_rows,
                                        .cosines = state_.tables.cosines(),
                                        .sines = state_.tables.sines(),
                                        .n_dims = h_.rope_dims,
                                        .n_heads = n_heads,
                                        .n_tokens = batch.n_rows}));
    r.barrier();
    PACKMULE_TRY_STATUS(attend(r, batch, layer));
    PACKMULE_TRY_STATUS(ops_.elementwise(r, {.op = vulkan::Elementwise::kSigmoidGate,
                                             .a = {v.span(mixed), mixed.n_cols, head},
                                             .b = {v.columns(in, columns.q + head).span, in.n_cols, 2 * head},
                                             .y = {v.span(mixed), mixed.n_cols, head},
                                             .n = head,
                                             .n_rows = batch.n_rows,
                                             .n_heads = h_.n_heads}));
    r.barrier();
    return {};
  };
}

/// K and V to the cache, then the queries over it.
Status DeviceLayers::attend(Recorder& r, const DeviceBatch& batch, int layer) {
  const runtime::Values& v = state_.values;
  const AttentionColumns columns(h_);
  const int64_t k_at = runtime::DeviceCaches::k_offset(layout_, layer);
  const int64_t v_at = runtime::DeviceCaches::v_offset(layout_, layer);
  for (const DeviceSlice& slice : batch.slices)
    for (const auto& [column, offset, type] :
         {std::tuple(columns.k, k_at, layout_.k_type), std::tuple(columns.v, v_at, layout_.v_type)})
      PACKMULE_TRY_STATUS(ops_.cache_store(r, {.x = from_row(v.columns(in, column), slice.row),
                                               .positions = state_.tables.positions(slice.row),
                                               .pages = state_.tables.pages(slice),
                                               .offset = offset,
                                               .type = type,
                                               .n_kv_heads = h_.n_kv_heads,
                                               .head_dim = h_.head_dim,
                                               .n_tokens = slice.n_rows}));
  r.barrier();
  for (const DeviceSlice& slice : batch.slices)
    for (int64_t begin = 0; begin < slice.n_rows; begin += kAttentionTokensAtOnce) {
      const int64_t row = slice.row + begin;
      PACKMULE_TRY_STATUS(
          ops_.attention(r, {.q = from_row(v.rows(q_), row),
                             .y = from_row(v.rows(mixed), row),
                             .visible = state_.tables.visible(row),
                             .pages = state_.tables.pages(slice),
                             .k_offset = k_at,
                             .v_offset = v_at,
                             .k_type = layout_.k_type,
                             .v_type = layout_.v_type,
                             .n_heads = h_.n_heads,
                             .n_kv_heads = h_.n_kv_heads,
                             .head_dim = h_.head_dim,
                             .n_tokens = std::min(kAttentionTokensAtOnce, slice.n_rows - begin),
                             .scale = 1.0f / std::sqrt(static_cast<float>(h_.head_dim)),
                             .parts = v.span(parts_),
                             .n_splits = attention_parts(slice.n_rows, slice.n_entries)}));
      r.barrier();  // the next one writes the parts anew
    }
  return {};
}

DeviceLayers::Op DeviceLayers::delta_rule(int layer, const DeltaNetWeights& w) {
  for (runtime::Value* value : {&in, &mixed, &g_, &beta_, &delta_scratch_}) state_.values.use(*value);
  const int conv = weights_.add(w.conv, "ssm_conv1d.weight"), a_coef = weights_.add(w.a_coef, "ssm_a");
  const int dt_bias = weights_.add(w.dt_bias, "ssm_dt.bias"),
            norm_weight = weights_.add(w.norm, "ssm_norm.weight");
  return [this, layer, conv, a_coef, dt_bias, norm_weight](Recorder& r, const DeviceBatch& batch) -> Status {
    const runtime::Values& v = state_.values;
    const DeltaColumns columns(h_);
    const int64_t r_heads = h_.n_v_heads / h_.n_k_heads;
    PACKMULE_TRY_STATUS(convolve(r, batch, layer, weights_.span(conv)));
    const float q_scale = 1.0f / std::sqrt(static_cast<float>(h_.dk));
    for (const auto& [column, scale] : {std::pair(columns.q, q_scale), std::pair(columns.k, 1.0f)}) {
      const vulkan::HeadRows heads{v.columns(in, column).span, in.n_cols, h_.dk};
      PACKMULE_TRY_STATUS(ops_.norm(r, {.norm = vulkan::Norm::kL2,
                                        .x = heads,
                                        .y = heads,
                                        .n = h_.dk,
                                        .n_heads = h_.n_k_heads,
                                        .n_tokens = batch.n_rows,
                                        .eps = kL2Eps,
                                        .scale = scale}));
    }
    // Of each key head's value heads first the b, then the a.
    PACKMULE_TRY_STATUS(ops_.delta_gates(r, {.a = v.columns(in, columns.ba + r_heads),
                                             .b = v.columns(in, columns.ba).span,
                                             .a_coef = weights_.span(a_coef),
                                             .dt_bias = weights_.span(dt_bias),
                                             .g = v.span(g_),
                                             .beta = v.span(beta_),
                                             .n_heads = h_.n_v_heads,
                                             .n_tokens = batch.n_rows,
                                             .group = r_heads,
                                             .group_stride = 2 * r_heads}));
    r.barrier();
    PACKMULE_TRY_STATUS(apply_delta(r, batch, layer));
    const vulkan::HeadRows out{v.span(mixed), mixed.n_cols, h_.dv};
    PACKMULE_TRY_STATUS(ops_.norm(r, {.norm = vulkan::Norm::kRmsGated,
                                      .x = out,
                                      .y = out,
                                      .weight = weights_.span(norm_weight),
                                      .z = {v.columns(in, columns.z).span, in.n_cols, h_.dv},
                                      .n = h_.dv,
                                      .n_heads = h_.n_v_heads,
                                      .n_tokens = batch.n_rows,
                                      .eps = h_.rms_eps}));
    r.barrier();
    return {};
  };
}

/// In place, stretch by stretch, the history between them being what is kept at marks.
Status DeviceLayers::convolve(Recorder& r, const DeviceBatch& batch, int layer, const vulkan::Span& weight) {
  const vulkan::Rows channels = state_.values.rows(in);
  for (size_t i = 0; i < most_stretches(batch); ++i) {
    for (const DeviceSlice& slice : batch.slices) {
      if (i >= slice.stretches.size()) continue;
      const Stretch& stretch = slice.stretches[i];
      const vulkan::Rows rows = from_row(channels, slice.row + stretch.begin);
      PACKMULE_TRY_STATUS(ops_.conv_silu(r, {.x = rows,
                                             .y = rows,
                                             .weight = weight,
                                             .history = slice.state->owner->history(*slice.state, layer),
                                             .n_channels = h_.conv_channels(),
                                             .n_taps = h_.conv_taps,
                                             .n_tokens = stretch.end - stretch.begin}));
    }
    r.barrier();
    keep(r, batch, i, layer, &runtime::DeviceCaches::history);
  }
  return {};
}

Status DeviceLayers::apply_delta(Recorder& r, const DeviceBatch& batch, int layer) {
  const runtime::Values& v = state_.values;
  const DeltaColumns columns(h_);
  const auto run = [&](const DeviceSlice& slice, int64_t begin, int64_t end) -> Status {
    const int64_t row = slice.row + begin;
    const auto gates = [&](const runtime::Value& value) { return from_row(v.rows(value), row).span; };
    const vulkan::DeltaArgs args{.state = slice.state->owner->state(*slice.state, layer),
                                 .q = from_row(v.columns(in, columns.q), row),
                                 .k = from_row(v.columns(in, columns.k), row).span,
                                 .v = from_row(v.columns(in, columns.v), row),
                                 .y = from_row(v.rows(mixed), row),
                                 .g = gates(g_),
                                 .beta = gates(beta_),
                                 .dk = h_.dk,
                                 .dv = h_.dv,
                                 .n_heads = h_.n_v_heads,
                                 .heads_per_key = h_.n_v_heads / h_.n_k_heads,
                                 .n_tokens = end - begin};
    if (end - begin < kChunkedFrom) return ops_.delta_recurrent(r, args);
    PACKMULE_TRY_STATUS(ops_.delta_chunked(r, args, v.span(delta_scratch_)));
    r.barrier();  // whoever is next writes the scratch anew
    return {};
  };
  for (size_t i = 0; i < most_stretches(batch); ++i) {
    for (const DeviceSlice& slice : batch.slices) {
      if (i >= slice.stretches.size()) continue;
      const Stretch& stretch = slice.stretches[i];
      // As on the host a chunk at the end that is short goes token by token, wherever the slice was cut.
      const int64_t rest = (stretch.end - stretch.begin) % kernels::kDeltaChunk;
      const int64_t chunked_end = rest < kChunkedFrom ? stretch.end - rest : stretch.end;
      for (int64_t begin = stretch.begin; begin < chunked_end; begin += kDeltaTokensAtOnce)
        PACKMULE_TRY_STATUS(run(slice, begin, std::min(chunked_end, begin + kDeltaTokensAtOnce)));
      if (chunked_end < stretch.end) PACKMULE_TRY_STATUS(run(slice, chunked_end, stretch.end));
    }
    r.barrier();
    keep(r, batch, i, layer, &runtime::DeviceCaches::state);
  }
  return {};
}

static_assert(kDeltaTokensAtOnce % kernels::kDeltaChunk == 0, "chunks must not depend on where work is cut");

}  // namespace packmule::model
