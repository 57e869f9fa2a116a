// The tensors of a qwen3next file, found by name, checked for shape and type, and cut into the matrices that
// the forward pass multiplies with. Small vectors are copied; matrices point to where the load mode
// has them (residency.h), or name their tensor among a device's weights.
//
// Shapes are [rows, cols] here: a GGUF tensor {ne0, ne1} is a matrix of ne1 rows of ne0 elements. Differences
// between file layouts (ssm_in or attn_qkv + attn_gate, fused expert tensors, fused q/k/v, tied output) end
// here: what comes out is the same for all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"
#include "kernels/kernels.h"
#include "model/hparams.h"
#include "model/placement.h"
#include "model/residency.h"
#include "quant/format.h"

namespace packmule::runtime {
class DeviceWeights;
}

namespace packmule::model {

struct Matrix {
  const std::byte* data = nullptr;  // row 0
  const quant::Format* format = nullptr;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int64_t row_bytes = 0;
  float scale = 1.0f;      // every product is multiplied by it
  bool in_strips = false;  // rows are interleaved (kernels/strip_layout.h)
  kernels::Matmul matmul;
  int device_item = -1;       // its tensor in runtime::DeviceWeights; -1: it is the host's
  int64_t device_offset = 0;  // of row 0 in the tensor, in bytes

  [[nodiscard]] bool on_device() const { return device_item >= 0; }
  [[nodiscard]] Matrix rows(int64_t begin, int64_t n) const {
    Matrix part = *this;
    part.data += begin * row_bytes;
    part.device_offset += begin * row_bytes;
    part.n_rows = n;
    return part;
  }
};

/// One matrix for each expert, of the same shape and type.
struct ExpertMatrices {
  Matrix first;              // of expert 0; its scale is not used
  int64_t expert_bytes = 0;  // from one expert to the next
  std::vector<float> scale;  // [n_experts]
  [[nodiscard]] bool on_device() const { return first.on_device(); }
  [[nodiscard]] Matrix of(int64_t expert) const {
    Matrix matrix = first;
    matrix.data += expert * expert_bytes;
    matrix.scale = scale[static_cast<size_t>(expert)];
    return matrix;
  }
};

/// Rows of a matrix whose results go to columns [column, column + matrix.n_rows) of an activation row.
struct Projection {
  Matrix matrix;
  int64_t column = 0;
};

/// Columns of the activation row that the input projections of a DeltaNet layer fill: q of all k-heads, k, v
/// of all v-heads (together the channels of the convolution), z, and per k-head r values of b, then r of a.
struct DeltaColumns {
  explicit DeltaColumns(const Hparams& h)
      : q(0),
        k(h.n_k_heads * h.dk),
        v(2 * h.n_k_heads * h.dk),
        z(h.conv_channels()),
        ba(z + h.n_v_heads * h.dv),
        total(ba + 2 * h.n_v_heads) {}
  int64_t q, k, v, z, ba, total;
};

struct DeltaNetWeights {
  std::vector<Projection> in;  // to DeltaColumns
  Matrix out;                  // [hidden, nv * dv]
  std::vector<float> conv;     // [channels, taps]
  std::vector<float> a_coef;   // [nv], negative
  std::vector<float> dt_bias;  // [nv]
  std::vector<float> norm;     // [dv]
};

/// Columns of an attention layer: per query head its query and its gate (2 * head_dim), then K, then V.
struct AttentionColumns {
  explicit AttentionColumns(const Hparams& h)
      : q(0),
        k(2 * h.n_heads * h.head_dim),
        v(k + h.n_kv_heads * h.head_dim),
        total(v + h.n_kv_heads * h.head_dim) {}
  int64_t q, k, v, total;
};

struct AttentionWeights {
  std::vector<Projection> in;  // to AttentionColumns
  Matrix out;                  // [hidden, n_heads * head_dim]
  std::vector<float> q_norm;   // [head_dim]
  std::vector<float> k_norm;   // [head_dim]
};

struct MoeWeights {
  Matrix router;                     // [n_experts, hidden]
  ExpertMatrices gate, up;           // [expert_ff, hidden]
  ExpertMatrices down;               // [hidden, expert_ff]
  Matrix shared_gate, shared_up;     // [shared_ff, hidden]
  Matrix shared_down;                // [hidden, shared_ff]
  std::vector<float> shared_weight;  // [hidden]: sigmoid(its dot product) weighs the shared expert
};

struct LayerWeights {
  bool recurrent = false;
  std::vector<float> mixer_norm;  // [hidden]
  std::vector<float> moe_norm;    // [hidden]
  DeltaNetWeights delta_net;      // of a recurrent layer
  AttentionWeights attention;     // of any other
  MoeWeights moe;
};

struct Weights {
  Matrix embedding;                // [n_vocab, hidden]
  std::vector<float> output_norm;  // [hidden]
  Matrix output;                   // [n_vocab, hidden]; the embedding when the file has no output tensor
  std::vector<LayerWeights> layers;
  bool take_quantized = false;  // there are matrices whose products read quantized activations
  int64_t total_bytes = 0;      // in the file, of all tensors above
  int64_t bytes_per_token = 0;  // of those, what one token reads: chosen experts, one embedding row

  Residency residency;  // the memory that matrices point into, unless it is the file's

  /// An error names the tensor, what was expected and what was found. `file` must outlive the result.
  /// Matrices can be used after residency.load(), those that `placement` puts on its device (null: none)
  /// after device->upload().
  static Result<Weights> bind(const gguf::File& file, const Hparams& hparams, const kernels::Kernels& kernels,
                              LoadMode load_mode, const Placement* placement = nullptr,
                              runtime::DeviceWeights* device = nullptr);
};

}  // namespace packmule::model
