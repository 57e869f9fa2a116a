#include "cache/recurrent_state.h"

#include <cstring>
#include <utility>

namespace packmule::cache {

std::shared_ptr<const StateShape> StateShape::of(const Layout& layout, bool device) {
  auto shape = std::make_shared<StateShape>();
  shape->state_floats = layout.n_v_heads * layout.dk * layout.dv;
  shape->history_floats = (layout.conv_taps - 1) * layout.conv_channels;
  int64_t n_of_kind[2] = {0, 0};
  for (size_t layer = 0; layer < layout.recurrent.size(); ++layer) {
    int64_t& n = n_of_kind[layout.recurrent[layer]];
    shape->mixer_number.push_back(n);
    n += layout.is_on_device(layer) == device ? 1 : 0;
  }
  shape->n_attention = n_of_kind[false];
  shape->n_recurrent = n_of_kind[true];
  return shape;
}

Result<RecurrentState> RecurrentState::allocate(std::shared_ptr<const StateShape> shape,
                                                std::shared_ptr<DeviceMemory> device, DeviceMemory::Use use) {
  RecurrentState state;
  PACKMULE_TRY(state.memory_,
               AlignedBuffer::allocate(static_cast<size_t>(shape->total_floats()) * sizeof(float),
                                       "a recurrent state"));
  state.shape_ = std::move(shape);
  if (device != nullptr) {
    PACKMULE_TRY(state.device_state_, device->new_state(use));
    state.device_ = std::move(device);
  }
  return state;
}

void RecurrentState::read(std::span<std::byte> to) const {
  if (size_bytes() > 0) std::memcpy(to.data(), memory_.data(), memory_.size_bytes());
}

void RecurrentState::write(std::span<const std::byte> from) {
  if (size_bytes() > 0) std::memcpy(memory_.data(), from.data(), memory_.size_bytes());
}

void RecurrentState::clear() {
  if (size_bytes() > 0) std::memset(memory_.data(), 0, memory_.size_bytes());
  if (device_ != nullptr) device_->clear(*device_state_);
}

void RecurrentState::copy_from(const RecurrentState& other) {
  if (size_bytes() > 0) std::memcpy(memory_.data(), other.memory_.data(), memory_.size_bytes());
  if (device_ != nullptr) device_->copy(*other.device_state_, *device_state_);
}

void RecurrentState::take_from(RecurrentState& other) {
  std::swap(memory_, other.memory_);
  // What is kept and what is worked with are different memories of a device.
  if (device_ != nullptr) device_->copy(*other.device_state_, *device_state_);
}

}  // namespace packmule::cache
