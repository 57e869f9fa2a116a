// Which parts of a model are on a graphics device. Made from rules or a plan by those who know them; the
// model only follows it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace packmule::runtime {
class Gpu;  // runtime/gpu.h: not here, so that Vulkan's headers stay below
}

namespace packmule::model {

/// Large batches have the host's experts copied to the device and multiplied there (placed_schedule.h).
struct ExpertStreaming {
  /// Per layer: of a batch of so many tokens and more. 0: never; no less than kLeastTokens counts. Only where
  /// the layer's router is on the device.
  std::vector<int64_t> from_tokens;
  static constexpr int64_t kLeastTokens = 9;  // fewer are multiplied one by one (vulkan/ops.h)
  /// The ring they pass through. A slot is larger than a matrix of an expert, or that layer is left out.
  int64_t n_slots = 4, slot_bytes = int64_t{16} << 20;
};

struct Placement {
  std::shared_ptr<runtime::Gpu> gpu;
  /// Names of tensors that are on the device; "output.weight" for a head that is tied to the embedding, too.
  /// Of vectors (norms, convolution and the like) whoever computes with them has a copy, whatever this says.
  std::set<std::string, std::less<>> tensors;
  /// Per layer: whether its KV cache or recurrent state is on the device, which then computes its attention
  /// or delta rule.
  std::vector<bool> caches;
  ExpertStreaming streaming;
  /// What caches will be asked for, so that a device that is too small refuses before anything is loaded:
  /// tokens of all sequences, and sequences. 0: not known.
  int64_t n_ctx = 0, n_sequences = 0;
  /// Told, in a line, when the driver lets the process have less of the device's memory than it has taken.
  /// From the thread that runs the model; may be null.
  std::function<void(const std::string&)> warn;
};

}  // namespace packmule::model
