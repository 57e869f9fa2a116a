// The ops that multiply with weights.
#include <array>

#include "vulkan/ops.h"
#include "vulkan/push.h"

namespace packmule::vulkan {
namespace {

constexpr int64_t kTile = 32;  // rows and tokens of a tile of matmul.comp
constexpr uint32_t kRowsAtOnce = 2;

// The structs mirror the push constant blocks of the shaders.
struct MatvecPush {
  VkDeviceAddress weights, tables, x, y, ids, x_scales;
  uint32_t n_rows, n_cols, row_bytes, n_tokens, x_stride, y_stride, expert_bytes, n_experts, x_divisor;
  float scale;
  VkDeviceAddress expert_scales;  // 0: none
};
struct MatmulPush {
  VkDeviceAddress weights, tables, x, y, tiles, pairs, begins, x_scales;
  uint32_t n_rows, n_cols, row_bytes, n_tokens, x_stride, y_stride, expert_bytes, n_experts, x_divisor;
  float scale;
  VkDeviceAddress expert_scales;  // 0: none
  uint32_t first_expert, end_expert;
};
struct SortPush {
  VkDeviceAddress ids, begins, pairs, tiles, groups;
  uint32_t n_pairs, n_experts, row_groups, row_layers;
};
struct GetRowsPush {
  VkDeviceAddress weights, tables, ids, y;
  uint32_t n_rows, n_cols, row_bytes, y_stride;
};

struct QuantizePush {
  VkDeviceAddress x, codes, scales;
  uint32_t n_groups, x_stride;
};

/// What is multiplied with weights: floats, or bytes with scales.
struct Input {
  VkDeviceAddress address = 0, scales = 0;
  int64_t stride = 0;  // elements
  bool rounded = false;

  template <class Args>
  explicit Input(const Args& args)
      : address(args.x.span.address), stride(args.x.stride), rounded(args.rounded.codes.address != 0) {
    if (!rounded) return;
    address = args.rounded.codes.address;
    scales = args.rounded.scales.address;
    stride = args.weights.n_cols;
  }
};

MatvecPush matvec_push(const Weights& w, VkDeviceAddress tables, const Input& x, const Rows& y) {
  return {.weights = w.span.address,
          .tables = tables,
          .x = x.address,
          .y = y.span.address,
          .ids = 0,
          .x_scales = x.scales,
          .n_rows = u32(w.n_rows),
          .n_cols = u32(w.n_cols),
          .row_bytes = u32(w.row_bytes()),
          .n_tokens = 0,
          .x_stride = u32(x.stride),
          .y_stride = u32(y.stride),
          .expert_bytes = u32(w.expert_bytes()),
          .n_experts = 0,
          .x_divisor = 1,
          .scale = w.scale,
          .expert_scales = w.expert_scales.address};
}

MatmulPush matmul_push(const Weights& w, VkDeviceAddress tables, const Input& x, const Rows& y) {
  return {.weights = w.span.address,
          .tables = tables,
          .x = x.address,
          .y = y.span.address,
          .tiles = 0,
          .pairs = 0,
          .begins = 0,
          .x_scales = x.scales,
          .n_rows = u32(w.n_rows),
          .n_cols = u32(w.n_cols),
          .row_bytes = u32(w.row_bytes()),
          .n_tokens = 0,
          .x_stride = u32(x.stride),
          .y_stride = u32(y.stride),
          .expert_bytes = u32(w.expert_bytes()),
          .n_experts = 0,
          .x_divisor = 1,
          .scale = w.scale,
          .expert_scales = w.expert_scales.address,
          .first_expert = u32(w.first_expert),
          .end_expert = u32(w.first_expert + w.n_experts)};
}

/// Tokens that share a decoded octet; each pipeline is another compilation, so only three counts.
uint32_t tokens_at_once(int64_t n_tokens) {
  return n_tokens == 1 ? 1 : n_tokens <= 4 ? 4 : 8;
}

}  // namespace

/// Words of such a size that a shader's 32-bit index reaches every byte; integer products where there are
/// any.
Status Ops::check(const Weights& w, bool rounded) const {
  if (w.n_experts * w.expert_bytes() > kLargestArena)
    return fail(ErrorKind::kInternal, "a matrix of {} bytes is larger than an arena",
                w.n_experts * w.expert_bytes());
  if (rounded && !has_int8(w.type))
    return fail(ErrorKind::kUnsupported, "{} has no integer products for {}", device_->info().id,
                quant::format_of(w.type).name);
  return {};
}

Status Ops::matmul(Recorder& recorder, const MatmulArgs& args) {
  return args.n_tokens <= kFewTokens ? matvec(recorder, args) : matmul_tiled(recorder, args);
}

Status Ops::matvec(Recorder& recorder, const MatmulArgs& args) {
  const Input x(args);
  PACKMULE_TRY_STATUS(check(args.weights, x.rounded));
  if (args.n_tokens == 0 || args.weights.n_rows == 0) return {};
  const uint32_t tokens = tokens_at_once(args.n_tokens);
  const std::array constants = {lanes_, static_cast<uint32_t>(args.weights.type), kRowsAtOnce, tokens};
  PACKMULE_TRY(const Pipeline pipeline,
               pipelines_.get(x.rounded ? Shader::k_matvec_int8 : Shader::k_matvec, constants));
  MatvecPush push = matvec_push(args.weights, tables_.span().address, x, args.y);
  push.n_tokens = u32(args.n_tokens);
  const RowGroups rows(groups_of(args.weights.n_rows, kRowsAtOnce));
  recorder.dispatch(pipeline, push, {rows.x, groups_of(args.n_tokens, tokens), rows.z});
  return {};
}

Status Ops::quantize(Recorder& recorder, const Rows& x, const QuantizedRows& out, int64_t n, int64_t n_rows) {
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_quantize, {}));
  const QuantizePush push{x.span.address, out.codes.address, out.scales.address, u32(n / 32), u32(x.stride)};
  recorder.dispatch(pipeline, push, {groups_of(n / 32, 64), u32(n_rows)});
  return {};
}

bool Ops::has_int8(quant::Type type) const {
  return device_->info().integer_dot && quant::format_of(type).block_elems > 1;
}

Status Ops::matmul_tiled(Recorder& recorder, const MatmulArgs& args) {
  const Input x(args);
  PACKMULE_TRY_STATUS(check(args.weights, x.rounded));
  if (args.n_tokens == 0 || args.weights.n_rows == 0) return {};
  const std::array constants = {static_cast<uint32_t>(args.weights.type)};
  PACKMULE_TRY(const Pipeline pipeline,
               pipelines_.get(x.rounded ? Shader::k_matmul_int8 : Shader::k_matmul, constants));
  MatmulPush push = matmul_push(args.weights, tables_.span().address, x, args.y);
  push.n_tokens = u32(args.n_tokens);
  const RowGroups rows(groups_of(args.weights.n_rows, kTile));
  recorder.dispatch(pipeline, push, {rows.x, groups_of(args.n_tokens, kTile), rows.z});
  return {};
}

Status Ops::expert_matvec(Recorder& recorder, const ExpertMatmulArgs& args) {
  const Input x(args);
  PACKMULE_TRY_STATUS(check(args.weights, x.rounded));
  if (args.n_pairs == 0 || args.weights.n_rows == 0) return {};
  const std::array constants = {lanes_, static_cast<uint32_t>(args.weights.type), kRowsAtOnce, 1u};
  PACKMULE_TRY(const Pipeline pipeline,
               pipelines_.get(x.rounded ? Shader::k_matvec_int8 : Shader::k_matvec, constants));
  MatvecPush push = matvec_push(args.weights, tables_.span().address, x, args.y);
  push.ids = args.ids.address;
  push.n_experts = u32(args.weights.n_experts);
  push.n_tokens = u32(args.n_pairs);
  push.x_divisor = u32(args.x_divisor);
  const RowGroups rows(groups_of(args.weights.n_rows, kRowsAtOnce));
  recorder.dispatch(pipeline, push, {rows.x, u32(args.n_pairs), rows.z});
  return {};
}

Status Ops::expert_sort(Recorder& recorder, const Span& ids, const ExpertOrder& order, int64_t n_rows) {
  if (order.n_experts > kMaxExperts)
    return fail(ErrorKind::kUnsupported, "{} experts; shaders sort at most {}", order.n_experts, kMaxExperts);
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_expert_sort, {}));
  const RowGroups rows(groups_of(n_rows, kTile));
  recorder.dispatch(pipeline,
                    SortPush{ids.address, order.begins.address, order.pairs.address, order.tiles.address,
                             order.groups.address, u32(order.n_pairs), u32(order.n_experts), rows.x, rows.z},
                    {1});
  return {};
}

Status Ops::expert_matmul(Recorder& recorder, const ExpertMatmulArgs& args, const ExpertOrder& order) {
  const Input x(args);
  PACKMULE_TRY_STATUS(check(args.weights, x.rounded));
  if (args.n_pairs == 0 || args.weights.n_rows == 0) return {};
  const std::array constants = {static_cast<uint32_t>(args.weights.type)};
  PACKMULE_TRY(const Pipeline pipeline,
               pipelines_.get(x.rounded ? Shader::k_matmul_int8 : Shader::k_matmul, constants));
  MatmulPush push = matmul_push(args.weights, tables_.span().address, x, args.y);
  push.n_experts = u32(args.weights.n_experts);
  push.tiles = order.tiles.address;
  push.pairs = order.pairs.address;
  push.begins = order.begins.address;
  push.x_divisor = u32(args.x_divisor);
  recorder.dispatch_indirect(pipeline, push, order.groups);
  return {};
}

Status Ops::get_rows(Recorder& recorder, const Weights& weights, const Span& ids, const Rows& y,
                     int64_t n_tokens) {
  PACKMULE_TRY_STATUS(check(weights, false));
  const std::array constants = {static_cast<uint32_t>(weights.type)};
  PACKMULE_TRY(const Pipeline pipeline, pipelines_.get(Shader::k_get_rows, constants));
  const GetRowsPush push{weights.span.address,     tables_.span().address, ids.address,
                         y.span.address,           u32(weights.n_rows),    u32(weights.n_cols),
                         u32(weights.row_bytes()), u32(y.stride)};
  recorder.dispatch(pipeline, push, {groups_of(weights.n_cols, 64 * 8), u32(n_tokens)});
  return {};
}

}  // namespace packmule::vulkan
