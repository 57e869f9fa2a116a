// Products with experts that lie in the host's memory and are multiplied on the device: for a large batch
// their weights pass through a ring of slots there (vulkan/stream_ring.h), as much of a tensor at a time as a
// slot holds.
//
// Weights are copied in the layout of the file, which the shaders read, from where the load mode has them:
// out of the mapped file, out of the copy, or out of strips, which are turned back into rows on the way. The
// file itself is no source for the latter: its pages were given back when it had been read, and memory has no
// room for both.
//
// All experts are copied, not only those that some token has chosen. Of 512 experts some 200 tokens leave
// none out, and so the host need not know the choice: the copies of a layer begin while the device is busy
// with what comes before.
#pragma once

#include <memory>
#include <optional>

#include "model/device_layers.h"
#include "model/schedule.h"
#include "vulkan/stream_ring.h"

namespace packmule::model {

/// Bytes that an expert's matrix takes in a slot: its rows, and the next begins at a whole word.
[[nodiscard]] int64_t streamed_expert_bytes(const ExpertMatrices& matrices);

/// `product` is done piece by piece with all `n_experts`. The ring must be there when the step runs, with
/// slots of at least one expert. All must outlive the step.
[[nodiscard]] std::unique_ptr<Step> make_streamed_product(const ExpertMatrices& matrices, int64_t n_experts,
                                                          DeviceLayers::PieceOp product,
                                                          std::optional<vulkan::StreamRing>& ring,
                                                          runtime::DeviceState& state, int n_threads);

}  // namespace packmule::model
