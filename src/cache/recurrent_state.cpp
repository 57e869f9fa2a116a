#include "cache/recurrent_state.h"

#include <cstring>
#include <utility>

namespace packmule::cache {
namespace {

/// Calls `part(on_device, offset, n)` for the bytes of each S and then of each history, in the model's order
/// of layers: `offset` is that of the n bytes in their side's memory.
template <class Part>
void for_each_part(const StateShape& shape, Part part) {
  int64_t n_on_device = 0;
  for (const StateShape::Place& place : shape.places) n_on_device += place.on_device ? 1 : 0;
  const auto n_layers = [&](bool device) {
    return device ? n_on_device : static_cast<int64_t>(shape.places.size()) - n_on_device;
  };
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  const int64_t state = shape.state_floats * kFloat, history = shape.history_floats * kFloat;
  const auto call = [&](bool on_device, int64_t offset, int64_t n) {
    part(on_device, static_cast<size_t>(offset), static_cast<size_t>(n));
  };
  for (const auto [on_device, number] : shape.places) call(on_device, number * state, state);
  for (const auto [on_device, number] : shape.places)
    call(on_device, n_layers(on_device) * state + number * history, history);
}

}  // namespace

std::shared_ptr<const StateShape> StateShape::of(const Layout& layout, bool device) {
  auto shape = std::make_shared<StateShape>();
  shape->state_floats = layout.n_v_heads * layout.dk * layout.dv;
  shape->history_floats = (layout.conv_taps - 1) * layout.conv_channels;
  int64_t n_of_kind[2] = {0, 0};
  int64_t n_recurrent_of_side[2] = {0, 0};
  for (size_t layer = 0; layer < layout.recurrent.size(); ++layer) {
    int64_t& n = n_of_kind[layout.recurrent[layer]];
    shape->mixer_number.push_back(n);
    n += layout.is_on_device(layer) == device ? 1 : 0;
    if (!layout.recurrent[layer]) continue;
    const bool side = layout.is_on_device(layer);
    shape->places.push_back({side, n_recurrent_of_side[side]++});
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

Result<std::span<std::byte>> RecurrentState::device_view() const {
  if (device_ == nullptr) return std::span<std::byte>();
  return device_->view(*device_state_);
}

Status RecurrentState::read(std::span<std::byte> to) const {
  PACKMULE_TRY(const std::span<const std::byte> device, device_view());
  for_each_part(*shape_, [&](bool on_device, size_t offset, size_t n) {
    std::memcpy(to.data(), (on_device ? device.data() : memory_.data()) + offset, n);
    to = to.subspan(n);
  });
  return {};
}

Status RecurrentState::write(std::span<const std::byte> from) {
  PACKMULE_TRY(const std::span<std::byte> device, device_view());
  for_each_part(*shape_, [&](bool on_device, size_t offset, size_t n) {
    std::memcpy((on_device ? device.data() : memory_.data()) + offset, from.data(), n);
    from = from.subspan(n);
  });
  return {};
}

void RecurrentState::clear() {
  if (memory_.size_bytes() > 0) std::memset(memory_.data(), 0, memory_.size_bytes());
  if (device_ != nullptr) device_->clear(*device_state_);
}

void RecurrentState::copy_from(const RecurrentState& other) {
  if (memory_.size_bytes() > 0) std::memcpy(memory_.data(), other.memory_.data(), memory_.size_bytes());
  if (device_ != nullptr) device_->copy(*other.device_state_, *device_state_);
}

void RecurrentState::take_from(RecurrentState& other) {
  std::swap(memory_, other.memory_);
  // What is kept and what is worked with are different memories of a device.
  if (device_ != nullptr) device_->copy(*other.device_state_, *device_state_);
}

}  // namespace packmule::cache
