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

struct Placement {
  std::shared_ptr<runtime::Gpu> gpu;
  /// Names of tensors that are on the device; "output.weight" for a head that is tied to the embedding, too.
  /// Of vectors (norms, convolution and the like) whoever computes with them has a copy, whatever this says.
  std::set<std::string, std::less<>> tensors;
  /// Per layer: whether its KV cache or recurrent state is on the device, which then computes its attention
  /// or delta rule.
  std::vector<bool> caches;
  /// What caches will be asked for, so that a device that is too small refuses before anything is loaded:
  /// tokens of all sequences, and sequences. 0: not known.
  int64_t n_ctx = 0, n_sequences = 0;
  /// Told, in a line, when the driver lets the process have less of the device's memory than it has taken.
  /// From the thread that runs the model; may be null.
  std::function<void(const std::string&)> warn;
};

}  // namespace packmule::model
