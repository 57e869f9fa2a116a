// The ops between the matrices.
#include "vulkan/ops.h"

#include <array>

#include "vulkan/push.h"
#include "vulkan/tables.h"
#include "vulkan/upload.h"

namespace packmule::vulkan {
namespace {

constexpr int64_t kElementGroup = 64;  // invocations of the shaders that take an element each
constexpr int64_t kDeltaColumns = 16;  // delta_recurrent.comp, delta_chunked.comp
constexpr int64_t kDeltaLanes = 8;
constexpr int64_t kDeltaChunk = 64;
constexpr int64_t kDeltaMatrices = 2 * kDeltaChunk * kDeltaChunk + 2 * kDeltaChunk;
constexpr int64_t kQueriesAtOnce = 8;  // attention.comp

struct NormPush {
  VkDeviceAddress x, weight, z, y;
  uint32_t n, x_stride, x_head_stride, z_stride, z_head_stride, y_stride, y_head_stride;
  float eps, scale;
  uint32_t unused = 0;
};
struct ElementwisePush {
  VkDeviceAddress a, b, y;
  uint32_t n, a_stride, b_stride, y_stride, a_head_stride, b_head_stride, y_head_stride, unused = 0;
};
struct DeltaGatesPush {
  VkDeviceAddress a, b, a_coef, dt_bias, g, beta;
  uint32_t n, ab_stride, out_stride, group, group_stride, unused = 0;
};
struct RopePush {
  VkDeviceAddress x, cosines, sines;
  uint32_t n_half, x_stride, x_head_stride, unused = 0;
};
struct ConvPush {
  VkDeviceAddress x, weight, history, y;
  uint32_t n_channels, n_tokens, x_stride, y_stride;
};
struct RouterPush {
  VkDeviceAddress logits, ids, weights;
  uint32_t n, k, stride, unused = 0;
};
struct ExpertSumPush {
  VkDeviceAddress y, weights, shared_y, shared_gate, x;
  uint32_t n, k, y_stride, shared_stride, x_stride, unused = 0;
};
struct RecurrentPush {
  VkDeviceAddress state, q, k, v, g, beta, y;
  uint32_t dk, dv, n_tokens, heads_per_key, qk_stride, v_stride, gate_stride, y_stride;
};
struct PreparePush {
  VkDeviceAddress q, k, g, beta, scratch;
  uint32_t dk, n_tokens, heads_per_key, qk_stride, gate_stride, unused = 0;
};
struct ChunkedPush {
  VkDeviceAddress state, q, k, v, beta, scratch, y;
  uint32_t dk, dv, n_tokens, heads_per_key, qk_stride, v_stride, gate_stride, y_stride;
};
struct AttentionPush {
  VkDeviceAddress q, visible, pages, parts;
  uint32_t n_rows, group, q_stride, k_offset, v_offset, k_row_bytes, v_row_bytes, n_splits;
  float scale;
  uint32_t unused = 0;
};
struct MergePush {
  VkDeviceAddress parts, y;
  uint32_t n_rows, group, y_stride, head_dim, n_splits, unused = 0;
};

struct CacheStorePush {
  VkDeviceAddress x, positions, pages;
  uint32_t head_dim, x_stride, offset, row_bytes;
};

Status check_delta(const DeltaArgs& args) {
  constexpr int64_t kMaxDk = 256;
  if (args.dk > kMaxDk)
    return fail(ErrorKind::kUnsupported, "keys of {} values; the delta rule's shaders take at most {}",
                args.dk, kMaxDk);
  return {};
}

Groups delta_groups(const DeltaArgs& args) {
  return {groups_of(args.dv, kDeltaColumns), u32(args.n_heads)};
}

}  // namespace

Result<std::unique_ptr<Ops>> Ops::create(std::shared_ptr<Device> device, Pipelines& pipelines) {
  std::unique_ptr<Ops> ops(new Ops(device, pipelines));
  const std::vector<uint32_t> tables = grid_tables();
  const auto bytes = std::as_bytes(std::span(tables));
  PACKMULE_TRY(ops->tables_, Buffer::create(device, Buffer::Kind::kDevice, static_cast<int64_t>(bytes.size()),
                                            "the tables of the IQ formats"));
  PACKMULE_TRY(Uploader uploader, Uploader::create(device, 64 << 10));
  PACKMULE_TRY_STATUS(uploader.upload(bytes, ops->tables_.span()));
  PACKMULE_TRY_STATUS(uploader.finish());
  ops->lanes_ = std::clamp(device->info().subgroup_size, 32u, 64u);
  return ops;
}

Status Ops::norm(Recorder& recorder, const NormArgs& args) {
  const std::array constants = {64u, static_cast<uint32_t>(args.norm)};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_norm, constants));
  const NormPush push{args.x.span.address,
                      args.weight.address,
                      args.z.span.address,
                      args.y.span.address,
                      u32(args.n),
                      u32(args.x.stride),
                      u32(args.x.head_stride),
                      u32(args.z.stride),
                      u32(args.z.head_stride),
                      u32(args.y.stride),
                      u32(args.y.head_stride),
                      args.eps,
                      args.scale};
  recorder.dispatch(pipeline, push, {u32(args.n_heads), u32(args.n_tokens)});
  return {};
}

Status Ops::elementwise(Recorder& recorder, const ElementwiseArgs& args) {
  const std::array constants = {static_cast<uint32_t>(args.op)};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_elementwise, constants));
  const ElementwisePush push{
      args.a.span.address,     args.b.span.address,    args.y.span.address, u32(args.n),
      u32(args.a.stride),      u32(args.b.stride),     u32(args.y.stride),  u32(args.a.head_stride),
      u32(args.b.head_stride), u32(args.y.head_stride)};
  recorder.dispatch(pipeline, push, {groups_of(args.n, kElementGroup), u32(args.n_rows), u32(args.n_heads)});
  return {};
}

Status Ops::delta_gates(Recorder& recorder, const DeltaGatesArgs& args) {
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_delta_gates, {}));
  const DeltaGatesPush push{args.a.span.address,   args.b.address,
                            args.a_coef.address,   args.dt_bias.address,
                            args.g.address,        args.beta.address,
                            u32(args.n_heads),     u32(args.a.stride),
                            u32(args.n_heads),     u32(args.group > 0 ? args.group : args.n_heads),
                            u32(args.group_stride)};
  recorder.dispatch(pipeline, push, {groups_of(args.n_heads, kElementGroup), u32(args.n_tokens)});
  return {};
}

Status Ops::rope(Recorder& recorder, const RopeArgs& args) {
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_rope, {}));
  const RopePush push{args.x.span.address,  args.cosines.address, args.sines.address,
                      u32(args.n_dims / 2), u32(args.x.stride),   u32(args.x.head_stride)};
  recorder.dispatch(pipeline, push,
                    {groups_of(args.n_dims / 2, kElementGroup), u32(args.n_heads), u32(args.n_tokens)});
  return {};
}

Status Ops::conv_silu(Recorder& recorder, const ConvArgs& args) {
  if (args.n_tokens == 0) return {};
  const std::array constants = {u32(args.n_taps)};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_conv_silu, constants));
  const ConvPush push{args.x.span.address,  args.weight.address, args.history.address, args.y.span.address,
                      u32(args.n_channels), u32(args.n_tokens),  u32(args.x.stride),   u32(args.y.stride)};
  recorder.dispatch(pipeline, push, {groups_of(args.n_channels, kElementGroup)});
  return {};
}

Status Ops::router_top_k(Recorder& recorder, const RouterArgs& args) {
  if (args.n_experts > kMaxExperts || args.k > kMaxChosen)
    return fail(ErrorKind::kUnsupported, "{} of {} experts; shaders choose at most {} of {}", args.k,
                args.n_experts, kMaxChosen, kMaxExperts);
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_router_top_k, {}));
  const RouterPush push{args.logits.span.address, args.ids.address, args.weights.address,
                        u32(args.n_experts),      u32(args.k),      u32(args.logits.stride)};
  recorder.dispatch(pipeline, push, {u32(args.n_tokens)});
  return {};
}

Status Ops::expert_sum(Recorder& recorder, const ExpertSumArgs& args) {
  const std::array constants = {args.shared_gate.size_bytes > 0 ? 1u : 0u};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_expert_sum, constants));
  const ExpertSumPush push{args.y.span.address,
                           args.weights.address,
                           args.shared_y.span.address,
                           args.shared_gate.address,
                           args.x.span.address,
                           u32(args.n),
                           u32(args.k),
                           u32(args.y.stride),
                           u32(args.shared_y.stride),
                           u32(args.x.stride)};
  recorder.dispatch(pipeline, push, {groups_of(args.n, kElementGroup), u32(args.n_tokens)});
  return {};
}

Status Ops::delta_recurrent(Recorder& recorder, const DeltaArgs& args) {
  PACKMULE_TRY_STATUS(check_delta(args));
  if (args.n_tokens == 0) return {};
  const std::array constants = {groups_of(args.dk, kDeltaLanes)};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_delta_recurrent, constants));
  const RecurrentPush push{
      args.state.address, args.q.span.address, args.k.address,          args.v.span.address,
      args.g.address,     args.beta.address,   args.y.span.address,     u32(args.dk),
      u32(args.dv),       u32(args.n_tokens),  u32(args.heads_per_key), u32(args.q.stride),
      u32(args.v.stride), u32(args.n_heads),   u32(args.y.stride)};
  recorder.dispatch(pipeline, push, delta_groups(args));
  return {};
}

int64_t delta_scratch_bytes(int64_t n_tokens, int64_t n_heads) {
  return 4 * kDeltaMatrices * n_heads * ((n_tokens + kDeltaChunk - 1) / kDeltaChunk);
}

Status Ops::delta_chunked(Recorder& recorder, const DeltaArgs& args, const Span& scratch) {
  PACKMULE_TRY_STATUS(check_delta(args));
  if (args.n_tokens == 0) return {};
  PACKMULE_TRY(const Pipeline prepare, pipelines_.get(Shader::k_delta_prepare, {}));
  PACKMULE_TRY(const Pipeline apply, pipelines_.get(Shader::k_delta_chunked, {}));
  const PreparePush first{args.q.span.address, args.k.address,   args.g.address,     args.beta.address,
                          scratch.address,     u32(args.dk),     u32(args.n_tokens), u32(args.heads_per_key),
                          u32(args.q.stride),  u32(args.n_heads)};
  recorder.dispatch(prepare, first, {groups_of(args.n_tokens, kDeltaChunk), u32(args.n_heads)});
  recorder.barrier();
  const ChunkedPush second{
      args.state.address, args.q.span.address, args.k.address,          args.v.span.address,
      args.beta.address,  scratch.address,     args.y.span.address,     u32(args.dk),
      u32(args.dv),       u32(args.n_tokens),  u32(args.heads_per_key), u32(args.q.stride),
      u32(args.v.stride), u32(args.n_heads),   u32(args.y.stride)};
  recorder.dispatch(apply, second, delta_groups(args));
  return {};
}

int64_t attention_parts_bytes(int64_t n_tokens, int64_t n_heads, int64_t head_dim, int64_t n_splits) {
  return 4 * n_splits * n_heads * n_tokens * (head_dim + 2);
}

Status Ops::attention(Recorder& recorder, const AttentionArgs& args) {
  if (args.head_dim > kMaxHeadDim)
    return fail(ErrorKind::kUnsupported, "heads of {} values; attention's shader takes at most {}",
                args.head_dim, kMaxHeadDim);
  if (args.n_tokens == 0) return {};
  const std::array constants = {static_cast<uint32_t>(args.k_type), static_cast<uint32_t>(args.v_type),
                                u32(args.head_dim)};
  PACKMULE_TRY(const Pipeline part, pipelines_.get(Shader::k_attention, constants));
  PACKMULE_TRY(const Pipeline merge, pipelines_.get(Shader::k_attention_merge, {}));
  const int64_t group = args.n_heads / args.n_kv_heads;
  const int64_t n_rows = args.n_tokens * group;
  const auto row_bytes = [&](quant::Type type) {
    return u32(quant::row_bytes(quant::format_of(type), args.head_dim));
  };
  const AttentionPush push{args.q.span.address,
                           args.visible.address,
                           args.pages.address,
                           args.parts.address,
                           u32(n_rows),
                           u32(group),
                           u32(args.q.stride),
                           u32(args.k_offset),
                           u32(args.v_offset),
                           row_bytes(args.k_type),
                           row_bytes(args.v_type),
                           u32(args.n_splits),
                           args.scale};
  recorder.dispatch(part, push,
                    {groups_of(n_rows, kQueriesAtOnce), u32(args.n_kv_heads), u32(args.n_splits)});
  recorder.barrier();
  const MergePush last{args.parts.address, args.y.span.address, u32(n_rows),       u32(group),
                       u32(args.y.stride), u32(args.head_dim),  u32(args.n_splits)};
  recorder.dispatch(merge, last, {u32(n_rows), u32(args.n_kv_heads)});
  return {};
}

Status Ops::cache_store(Recorder& recorder, const CacheStoreArgs& args) {
  const quant::Format& format = quant::format_of(args.type);
  if (!format.kv_cache)
    return fail(ErrorKind::kUnsupported, "format {} cannot hold a KV cache; take f16", format.name);
  const std::array constants = {static_cast<uint32_t>(args.type)};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_cache_store, constants));
  const CacheStorePush push{args.x.span.address,
                            args.positions.address,
                            args.pages.address,
                            u32(args.head_dim),
                            u32(args.x.stride),
                            u32(args.offset),
                            u32(quant::row_bytes(format, args.head_dim))};
  constexpr int64_t kChunk = 32;  // values an invocation encodes
  recorder.dispatch(pipeline, push,
                    {groups_of(args.head_dim, 64 * kChunk), u32(args.n_kv_heads), u32(args.n_tokens)});
  return {};
}

}  // namespace packmule::vulkan
