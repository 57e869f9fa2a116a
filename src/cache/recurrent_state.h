// Recurrent and convolution state of all DeltaNet layers at one token of a sequence. Layers whose cache is a
// device's have theirs there, behind the interface of device_memory.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "cache/device_memory.h"
#include "cache/layout.h"

namespace packmule::cache {

/// Where each layer's part lies in the memory of one side: all S, then all convolution histories.
struct StateShape {
  int64_t state_floats = 0;           // S of a layer
  int64_t history_floats = 0;         // convolution history of a layer
  std::vector<int64_t> mixer_number;  // per layer: how many layers of its kind and side come before it
  int64_t n_recurrent = 0;            // layers of this side
  int64_t n_attention = 0;            // layers of this side
  struct Place {
    bool on_device = false;
    int64_t number = 0;  // recurrent layers of its side before it
  };
  std::vector<Place> places;  // of the recurrent layers of both sides, in the model's order
  static std::shared_ptr<const StateShape> of(const Layout& layout, bool device = false);
  [[nodiscard]] int64_t total_floats() const { return n_recurrent * (state_floats + history_floats); }
  [[nodiscard]] int64_t total_floats_of_both() const {
    return static_cast<int64_t>(places.size()) * (state_floats + history_floats);
  }
};

class RecurrentState {
 public:
  RecurrentState() = default;
  /// All zero: the state before the first token. `device` holds the part of the layers that are not the
  /// host's, as `use` says; null when there are none.
  static Result<RecurrentState> allocate(std::shared_ptr<const StateShape> shape,
                                         std::shared_ptr<DeviceMemory> device = nullptr,
                                         DeviceMemory::Use use = DeviceMemory::Use::kLive);

  /// S [nv, dk, dv] of a recurrent layer.
  [[nodiscard]] float* state(int layer) const {
    return memory_.as<float>().data() + shape_->mixer_number[layer] * shape_->state_floats;
  }
  /// [(taps - 1), channels] of a recurrent layer, oldest first.
  [[nodiscard]] float* conv_history(int layer) const {
    return memory_.as<float>().data() + shape_->n_recurrent * shape_->state_floats +
           shape_->mixer_number[layer] * shape_->history_floats;
  }
  /// Of both sides.
  [[nodiscard]] int64_t size_bytes() const {
    return shape_ == nullptr ? 0 : shape_->total_floats_of_both() * static_cast<int64_t>(sizeof(float));
  }
  /// The device's part; null when no layer is a device's.
  [[nodiscard]] DeviceMemory::State* on_device() const { return device_state_.get(); }

  /// How it leaves memory for a file, and comes back: size_bytes(), all S and then all convolution histories
  /// in the model's order of layers, whichever side has them. Of a kept state; an error is the device's, and
  /// then what was written to is undefined.
  [[nodiscard]] Status read(std::span<std::byte> to) const;
  [[nodiscard]] Status write(std::span<const std::byte> from);

  void clear();
  /// `other` has the same shape.
  void copy_from(const RecurrentState& other);
  /// As copy_from(), but leaves `other` with contents that must not be used before clear() or copy_from().
  void take_from(RecurrentState& other);

 private:
  [[nodiscard]] Result<std::span<std::byte>> device_view() const;
  AlignedBuffer memory_;  // the host's part
  std::shared_ptr<const StateShape> shape_;
  std::shared_ptr<DeviceMemory> device_;
  std::unique_ptr<DeviceMemory::State> device_state_;  // goes before what it was made by
};

}  // namespace packmule::cache
