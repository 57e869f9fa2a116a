#include "cache/recurrent_state.h"

#include <cstring>

namespace packmule::cache {

std::shared_ptr<const StateShape> StateShape::of(const Layout& layout) {
  auto shape = std::make_shared<StateShape>();
  shape->state_floats = layout.n_v_heads * layout.dk * layout.dv;
  shape->history_floats = (layout.conv_taps - 1) * layout.conv_channels;
  int64_t n_of_kind[2] = {0, 0};
  for (const bool recurrent : layout.recurrent) shape->mixer_number.push_back(n_of_kind[recurrent]++);
  shape->n_recurrent = n_of_kind[true];
  return shape;
}

Result<RecurrentState> RecurrentState::allocate(std::shared_ptr<const StateShape> shape) {
  RecurrentState state;
  const int64_t floats = shape->n_recurrent * (shape->state_floats + shape->history_floats);
  PACKMULE_TRY(state.memory_,
               AlignedBuffer::allocate(static_cast<size_t>(floats) * sizeof(float), "a recurrent state"));
  state.shape_ = std::move(shape);
  return state;
}

void RecurrentState::clear() {
  if (size_bytes() > 0) std::memset(memory_.data(), 0, memory_.size_bytes());
}

void RecurrentState::copy_from(const RecurrentState& other) {
  if (size_bytes() > 0) std::memcpy(memory_.data(), other.memory_.data(), memory_.size_bytes());
}

}  // namespace packmule::cache
