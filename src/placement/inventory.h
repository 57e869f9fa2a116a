// What there is to place: every tensor of a model file with its part in the forward pass and its bytes.
//
// Built from the tensor directory alone; no weight is read. What a token reads of a tensor is counted as
// model/weights.h counts it: of the experts those that are chosen, of the embedding one row, of the rest all.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/file.h"
#include "quant/format.h"

namespace packmule::placement {

/// The hyper-parameters that placement needs; the caller takes them from the file's (model/hparams.h).
struct ModelShape {
  int64_t n_layers = 0;         // of the trunk
  int64_t n_file_blocks = 0;    // with multi-token-prediction blocks, which -ngl counts too
  std::vector<bool> recurrent;  // per trunk layer: DeltaNet (true) or attention
  int64_t n_vocab = 0;
  int64_t hidden = 0;
  int64_t n_experts = 0;
  int64_t n_experts_used = 0;
  int64_t expert_ff = 0;
  int64_t shared_ff = 0;
  int64_t n_heads = 0;  // of attention
  int64_t head_dim = 0;
  int64_t in_columns = 0;     // widest row of a mixer's input projections
  int64_t mixed_columns = 0;  // widest row before a mixer's output projection
  int64_t state_values = 0;   // S of one DeltaNet layer, nv * dk * dv
  int64_t n_delta_heads = 0;  // value heads of a DeltaNet layer
};

/// Where in the forward pass a tensor is used.
enum class Part : uint8_t {
  kEmbedding,
  kMixerIn,     // input projections of attention or DeltaNet
  kMixerSmall,  // norms, convolution and other vectors of a mixer
  kMixerOut,
  kRouter,      // with the norm before it
  kShared,      // shared expert and its gate
  kExpertGate,  // or gate and up in one
  kExpertUp,
  kExpertDown,
  kOutput,  // with its norm
  kUnused,  // never loaded: multi-token prediction, names that are not known
};
[[nodiscard]] constexpr bool is_expert(Part part) {
  return part == Part::kExpertGate || part == Part::kExpertUp || part == Part::kExpertDown;
}

struct Tensor {
  std::string name;
  std::string_view kind;  // tensor_kind.h
  Part part = Part::kUnused;
  int layer = -1;  // -1: in no block
  quant::Type type = quant::Type::kF32;
  int64_t bytes = 0;
  int64_t bytes_per_token = 0;
  int64_t n_elems = 0;
  bool tied = false;  // output: the embedding read once more; takes memory of its own on a device only
};

struct Inventory {
  ModelShape shape;
  std::vector<Tensor> tensors;             // in file order; a tied output comes last
  std::vector<std::vector<int>> of_layer;  // per trunk layer: indices of its tensors
  int embedding = -1;                      // index
  std::vector<int> output;                 // indices: the norm and the matrix
  int64_t loaded_bytes = 0;                // of all parts but kUnused
  int64_t unused_bytes = 0;
  int64_t bytes_per_token = 0;  // of the loaded

  static Inventory make(ModelShape shape, std::span<const gguf::TensorInfo> tensors);
};

}  // namespace packmule::placement
