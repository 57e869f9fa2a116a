#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string_view>
#include <utility>

#include "runtime/device_weights.h"

namespace packmule::model {
namespace {

using Shape = std::array<int64_t, 3>;  // GGUF order, fastest first; 1 for dimensions that are not there

std::string describe(const Shape& shape) {
  size_t n = shape.size();
  while (n > 1 && shape[n - 1] == 1) --n;
  return fmt::format("{{{}}}",
                     fmt::join(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(n), ", "));
}

class Binder {
 public:
  Binder(const gguf::File& file, const Hparams& h, const kernels::Kernels& kernels, Weights& weights,
         const Placement* placement, runtime::DeviceWeights* device)
      : file_(file), h_(h), kernels_(kernels), weights_(weights), placement_(placement), device_(device) {}

  Status bind() {
    PACKMULE_TRY(weights_.embedding, matrix("token_embd", h_.hidden, h_.n_vocab, kWholeRows, kOneRow));
    if (weights_.embedding.on_device() && weights_.embedding.scale != 1.0f)
      return fail(
          ErrorKind::kUnsupported,
          "{}: tensor token_embd.scale: an embedding with a factor is looked up on the CPU only; leave "
          "token_embd.weight there",
          file_.path());
    PACKMULE_TRY(weights_.output_norm, vector("output_norm.weight", {h_.hidden, 1, 1}));
    if (has("output.weight")) {
      PACKMULE_TRY(weights_.output, matrix("output", h_.hidden, h_.n_vocab, kAll));
    } else {                                 // tied: the embedding's rows are read once more, as the head
      weights_.output = weights_.embedding;  // as the file has it: rows of it are decoded alone
      PACKMULE_TRY_STATUS(place_tied_output());
      weights_.bytes_per_token += weights_.embedding.n_rows * weights_.embedding.row_bytes;
    }
    for (int64_t i = 0; i < h_.n_layers; ++i) {
      PACKMULE_TRY(LayerWeights bound,
                   layer(fmt::format("blk.{}.", i), h_.recurrent[static_cast<size_t>(i)]));
      weights_.layers.push_back(std::move(bound));
    }
    return {};
  }

 private:
  static constexpr int64_t kWordBytes = 4;
  /// A unit of single rows: never in strips.
  static constexpr int64_t kWholeRows = 1;

  /// How much of a tensor one token reads.
  enum Use { kAll, kOneRow, kChosenExperts };

  /// The head may be where the embedding is not: then the device has a copy, or the host uses the file's.
  Status place_tied_output() {
    const bool on_device = placement_ != nullptr && placement_->tensors.contains("output.weight");
    if (on_device == weights_.embedding.on_device()) return {};
    PACKMULE_TRY(const gguf::TensorInfo* info, find("token_embd.weight", {h_.hidden, h_.n_vocab, 1}));
    weights_.output.data = info->data;
    weights_.output.device_item = on_device ? device_->add(*info) : -1;
    return {};
  }

  [[nodiscard]] bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  Result<const gguf::TensorInfo*> find(const std::string& name, const Shape& shape) const {
    const gguf::TensorInfo* info = file_.find_tensor(name);
    if (info == nullptr)
      return fail(ErrorKind::kInvalidFile, "{}: tensor {}: expected one of shape {}, found none",
                  file_.path(), name, describe(shape));
    const Shape found{info->ne[0], info->ne[1], info->ne[2]};
    if (found != shape || info->ne[3] != 1)
      return fail(ErrorKind::kInvalidFile, "{}: tensor {}: expected shape {}, found {}", file_.path(), name,
                  describe(shape), fmt::format("{{{}}}", fmt::join(info->ne, ", ")));
    return info;
  }

  void count(const gguf::TensorInfo& info, Use use) {
    const auto bytes = static_cast<int64_t>(info.size_bytes);
    weights_.total_bytes += bytes;
    weights_.bytes_per_token += use == kOneRow          ? info.row_bytes()
                                : use == kChosenExperts ? bytes / h_.n_experts * h_.n_experts_used
                                                        : bytes;
  }

  /// A small tensor of one of the plain float types, as float32.
  Result<std::vector<float>> vector(const std::string& name, const Shape& shape) {
    PACKMULE_TRY(const gguf::TensorInfo* info, find(name, shape));
    PACKMULE_TRY(std::vector<float> values, decode(*info));
    count(*info, kAll);
    return values;
  }

  Result<std::vector<float>> decode(const gguf::TensorInfo& info) const {
    const quant::Type type = info.format->type;
    if (type != quant::Type::kF32 && type != quant::Type::kF16 && type != quant::Type::kBF16)
      return fail(ErrorKind::kUnsupported, "{}: tensor {}: expected type F32, F16 or BF16, found {}",
                  file_.path(), info.name, info.format->name);
    std::vector<float> values(static_cast<size_t>(info.n_elems()));
    info.format->decode(info.data, values.data(), info.n_elems());
    return values;
  }

  /// The factors in NAME.scale (formats of 4-bit floats have one for the tensor, or one for each expert): one
  /// value for each of n parts, 1 where the file has none.
  Result<std::vector<float>> scales(const std::string& name, int64_t n) {
    std::vector<float> values(static_cast<size_t>(n), 1.0f);
    const gguf::TensorInfo* info = file_.find_tensor(name + ".scale");
    if (info == nullptr) return values;
    if (info->n_elems() != 1 && info->n_elems() != n)
      return fail(ErrorKind::kInvalidFile, "{}: tensor {}.scale: expected {} element{}, found {}",
                  file_.path(), name, n == 1 ? "1" : fmt::format("1 or {}", n), n == 1 ? "" : "s",
                  info->n_elems());
    PACKMULE_TRY(const std::vector<float> stored, decode(*info));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = stored[stored.size() == 1 ? 0 : i];
      if (!std::isfinite(values[i]))
        return fail(ErrorKind::kInvalidFile, "{}: tensor {}.scale: expected finite numbers, found {}",
                    file_.path(), name, values[i]);
    }
    count(*info, kAll);
    return values;
  }

  /// `unit`: matrices and views of the tensor begin and end at multiples of so many rows.
  Result<Matrix> rows_of(const gguf::TensorInfo& info, int64_t n_rows, int64_t n_cols, float scale,
                         int64_t unit) {
    const kernels::Matmul& matmul = kernels_.matmul[static_cast<size_t>(info.format->type)];
    if (matmul.rows == nullptr)
      return fail(ErrorKind::kUnsupported, "{}: tensor {}: packmule cannot multiply with type {} on {}",
                  file_.path(), info.name, info.format->name, isa_name(kernels_.isa));
    if (placement_ != nullptr && placement_->tensors.contains(info.name)) {
      const bool is_cut = unit != n_rows && unit != kWholeRows;
      if (is_cut && unit * info.row_bytes() % kWordBytes != 0)
        return fail(
            ErrorKind::kUnsupported,
            "{}: tensor {}: parts of it begin in the middle of a word, which a device cannot read; leave it "
            "on the CPU",
            file_.path(), info.name);
      return Matrix{info.data, info.format,       n_rows, n_cols, info.row_bytes(), scale, false,
                    matmul,    device_->add(info)};
    }
    weights_.take_quantized |= matmul.takes_quantized;
    const bool in_strips = weights_.residency.mode() == LoadMode::kRepack && matmul.strips != nullptr &&
                           unit % kernels::kStripRows == 0;
    const std::byte* data = weights_.residency.place(info, in_strips ? matmul.interleave : nullptr);
    return Matrix{data, info.format, n_rows, n_cols, info.row_bytes(), scale, in_strips, matmul};
  }

  Result<Matrix> matrix(const std::string& name, int64_t n_cols, int64_t n_rows, int64_t unit = 0,
                        Use use = kAll) {
    if (unit == 0) unit = n_rows;
    PACKMULE_TRY(const gguf::TensorInfo* info, find(name + ".weight", {n_cols, n_rows, 1}));
    PACKMULE_TRY(const std::vector<float> scale, scales(name, 1));
    count(*info, use);
    return rows_of(*info, n_rows, n_cols, scale[0], unit);
  }

  Result<ExpertMatrices> experts(const std::string& name, int64_t n_cols, int64_t n_rows, int64_t unit) {
    PACKMULE_TRY(const gguf::TensorInfo* info, find(name + ".weight", {n_cols, n_rows, h_.n_experts}));
    ExpertMatrices bound;
    PACKMULE_TRY(bound.scale, scales(name, h_.n_experts));
    PACKMULE_TRY(bound.first, rows_of(*info, n_rows, n_cols, 1.0f, unit));
    bound.expert_bytes = n_rows * info->row_bytes();
    count(*info, kChosenExperts);
    return bound;
  }

  Result<LayerWeights> layer(const std::string& prefix, bool recurrent) {
    LayerWeights w;
    w.recurrent = recurrent;
    PACKMULE_TRY(w.mixer_norm, vector(prefix + "attn_norm.weight", {h_.hidden, 1, 1}));
    PACKMULE_TRY(w.moe_norm, vector(prefix + "post_attention_norm.weight", {h_.hidden, 1, 1}));
    if (recurrent) {
      PACKMULE_TRY(w.delta_net, delta_net(prefix));
    } else {
      PACKMULE_TRY(w.attention, attention(prefix));
    }
    PACKMULE_TRY(w.moe, moe(prefix));
    return w;
  }

  Result<DeltaNetWeights> delta_net(const std::string& prefix) {
    const DeltaColumns columns(h_);
    const int64_t v_width = h_.n_v_heads * h_.dv;
    DeltaNetWeights w;
    if (has(prefix + "ssm_in.weight")) {
      PACKMULE_TRY(const Matrix in, matrix(prefix + "ssm_in", h_.hidden, columns.ba,
                                           std::gcd(h_.dk, h_.n_v_heads / h_.n_k_heads * h_.dv)));
      cut_by_k_head(in, columns, w.in);
    } else {
      PACKMULE_TRY(const Matrix qkv, matrix(prefix + "attn_qkv", h_.hidden, h_.conv_channels()));
      PACKMULE_TRY(const Matrix z, matrix(prefix + "attn_gate", h_.hidden, v_width));
      w.in = {{qkv, columns.q}, {z, columns.z}};
    }
    PACKMULE_TRY(const Matrix ba, matrix(prefix + "ssm_ba", h_.hidden, 2 * h_.n_v_heads));
    w.in.push_back({ba, columns.ba});
    PACKMULE_TRY(w.out, matrix(prefix + "ssm_out", v_width, h_.hidden));
    PACKMULE_TRY(w.conv, vector(prefix + "ssm_conv1d.weight", {h_.conv_taps, h_.conv_channels(), 1}));
    PACKMULE_TRY(w.a_coef, vector(prefix + "ssm_a", {h_.n_v_heads, 1, 1}));
    PACKMULE_TRY(w.dt_bias, vector(prefix + "ssm_dt.bias", {h_.n_v_heads, 1, 1}));
    PACKMULE_TRY(w.norm, vector(prefix + "ssm_norm.weight", {h_.dv, 1, 1}));
    return w;
  }

  /// Older files keep the checkpoint's order: for each k-head its q, k, then v and z of its r value heads.
  void cut_by_k_head(const Matrix& in, const DeltaColumns& columns, std::vector<Projection>& out) const {
    const int64_t v_width = h_.n_v_heads / h_.n_k_heads * h_.dv;
    int64_t row = 0;
    const auto take = [&](int64_t n_rows, int64_t column) {
      out.push_back({in.rows(row, n_rows), column});
      row += n_rows;
    };
    for (int64_t head = 0; head < h_.n_k_heads; ++head) {
      take(h_.dk, columns.q + head * h_.dk);
      take(h_.dk, columns.k + head * h_.dk);
      take(v_width, columns.v + head * v_width);
      take(v_width, columns.z + head * v_width);
    }
  }

  Result<AttentionWeights> attention(const std::string& prefix) {
    const AttentionColumns columns(h_);
    const int64_t q_width = columns.k;
    const int64_t kv_width = h_.n_kv_heads * h_.head_dim;
    AttentionWeights w;
    if (has(prefix + "attn_qkv.weight")) {  // the three stacked: the columns are in the same order
      PACKMULE_TRY(const Matrix qkv, matrix(prefix + "attn_qkv", h_.hidden, columns.total));
      w.in = {{qkv, columns.q}};
    } else {
      PACKMULE_TRY(const Matrix q, matrix(prefix + "attn_q", h_.hidden, q_width));
      PACKMULE_TRY(const Matrix k, matrix(prefix + "attn_k", h_.hidden, kv_width));
      PACKMULE_TRY(const Matrix v, matrix(prefix + "attn_v", h_.hidden, kv_width));
      w.in = {{q, columns.q}, {k, columns.k}, {v, columns.v}};
    }
    PACKMULE_TRY(w.out, matrix(prefix + "attn_output", h_.n_heads * h_.head_dim, h_.hidden));
    PACKMULE_TRY(w.q_norm, vector(prefix + "attn_q_norm.weight", {h_.head_dim, 1, 1}));
    PACKMULE_TRY(w.k_norm, vector(prefix + "attn_k_norm.weight", {h_.head_dim, 1, 1}));
    return w;
  }

  Result<MoeWeights> moe(const std::string& prefix) {
    MoeWeights w;
    PACKMULE_TRY(w.router, matrix(prefix + "ffn_gate_inp", h_.hidden, h_.n_experts));
    if (has(prefix + "ffn_gate_up_exps.weight")) {
      PACKMULE_TRY(w.gate, experts(prefix + "ffn_gate_up_exps", h_.hidden, 2 * h_.expert_ff, h_.expert_ff));
      w.up = w.gate;
      w.gate.first = w.gate.first.rows(0, h_.expert_ff);
      w.up.first = w.up.first.rows(h_.expert_ff, h_.expert_ff);
    } else {
      PACKMULE_TRY(w.gate, experts(prefix + "ffn_gate_exps", h_.hidden, h_.expert_ff, h_.expert_ff));
      PACKMULE_TRY(w.up, experts(prefix + "ffn_up_exps", h_.hidden, h_.expert_ff, h_.expert_ff));
    }
    PACKMULE_TRY(w.down, experts(prefix + "ffn_down_exps", h_.expert_ff, h_.hidden, h_.hidden));
    PACKMULE_TRY(w.shared_gate, matrix(prefix + "ffn_gate_shexp", h_.hidden, h_.shared_ff));
    PACKMULE_TRY(w.shared_up, matrix(prefix + "ffn_up_shexp", h_.hidden, h_.shared_ff));
    PACKMULE_TRY(w.shared_down, matrix(prefix + "ffn_down_shexp", h_.shared_ff, h_.hidden));
    // {H} and {H, 1} are the same shape once trailing ones are left out.
    PACKMULE_TRY(const gguf::TensorInfo* shared,
                 find(prefix + "ffn_gate_inp_shexp.weight", {h_.hidden, 1, 1}));
    PACKMULE_TRY(const std::vector<float> scale, scales(prefix + "ffn_gate_inp_shexp", 1));
    count(*shared, kAll);
    w.shared_weight.resize(static_cast<size_t>(h_.hidden));
    shared->format->decode(shared->data, w.shared_weight.data(), h_.hidden);
    for (float& value : w.shared_weight) value *= scale[0];
    return w;
  }

  const gguf::File& file_;
  const Hparams& h_;
  const kernels::Kernels& kernels_;
  Weights& weights_;
  const Placement* placement_;  // null: everything is on the host
  runtime::DeviceWeights* device_;
};

}  // namespace

Result<Weights> Weights::bind(const gguf::File& file, const Hparams& hparams, const kernels::Kernels& kernels,
                              LoadMode load_mode, const Placement* placement,
                              runtime::DeviceWeights* device) {
  Weights weights;
  int64_t elsewhere = 0;
  if (placement != nullptr)
    for (const gguf::TensorInfo& tensor : file.tensors())
      if (placement->tensors.contains(tensor.name)) elsewhere += static_cast<int64_t>(tensor.size_bytes);
  PACKMULE_TRY(weights.residency, Residency::create(file, load_mode, kernels.isa != Isa::kRef, elsewhere));
  PACKMULE_TRY_STATUS(Binder(file, hparams, kernels, weights, placement, device).bind());
  return weights;
}

}  // namespace packmule::model
