// Recurrent and convolution state of all DeltaNet layers at one token of a sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "cache/layout.h"

namespace packmule::cache {

/// Where each layer's part lies: all S, then all convolution histories.
struct StateShape {
  int64_t state_floats = 0;           // S of a layer
  int64_t history_floats = 0;         // convolution history of a layer
  std::vector<int64_t> mixer_number;  // per layer: how many layers of its kind come before it
  int64_t n_recurrent = 0;            // layers
  static std::shared_ptr<const StateShape> of(const Layout& layout);
};

class RecurrentState {
 public:
  RecurrentState() = default;
  /// All zero: the state before the first token.
  static Result<RecurrentState> allocate(std::shared_ptr<const StateShape> shape);

  /// S [nv, dk, dv] of a recurrent layer.
  [[nodiscard]] float* state(int layer) const {
    return memory_.as<float>().data() + shape_->mixer_number[layer] * shape_->state_floats;
  }
  /// [(taps - 1), channels] of a recurrent layer, oldest first.
  [[nodiscard]] float* conv_history(int layer) const {
    return memory_.as<float>().data() + shape_->n_recurrent * shape_->state_floats +
           shape_->mixer_number[layer] * shape_->history_floats;
  }
  [[nodiscard]] int64_t size_bytes() const { return static_cast<int64_t>(memory_.size_bytes()); }

  void clear();
  /// `other` has the same shape.
  void copy_from(const RecurrentState& other);

 private:
  AlignedBuffer memory_;
  std::shared_ptr<const StateShape> shape_;
};

}  // namespace packmule::cache
