// Hyper-parameters of a qwen3next GGUF file, checked for consistency.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"

namespace packmule::model {

struct Hparams {
  std::string name;          // general.name, may be empty
  int64_t n_layers = 0;      // of the trunk, without multi-token-prediction blocks
  int64_t n_mtp_layers = 0;  // blocks after the trunk; skipped
  int64_t n_vocab = 0;       // rows of token_embd, padding included
  int64_t hidden = 0;
  int64_t context_length = 0;  // the model was trained for
  float rms_eps = 0;

  // attention layers
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t rope_dims = 0;
  float rope_theta = 0;

  // DeltaNet layers
  int64_t n_k_heads = 0;  // nk
  int64_t n_v_heads = 0;  // nv, a multiple of nk
  int64_t dk = 0;
  int64_t dv = 0;
  int64_t conv_taps = 0;
  [[nodiscard]] int64_t conv_channels() const { return 2 * n_k_heads * dk + n_v_heads * dv; }

  // mixture of experts
  int64_t n_experts = 0;
  int64_t n_experts_used = 0;
  int64_t expert_ff = 0;
  int64_t shared_ff = 0;

  std::vector<bool> recurrent;  // per trunk layer: DeltaNet (true) or attention

  /// An error names the key, what was expected and what was found.
  static Result<Hparams> read(const gguf::File& file);
};

}  // namespace packmule::model
