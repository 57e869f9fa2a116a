// A placement: where every tensor and every layer's cache lives, and what that takes of each memory.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "placement/inventory.h"
#include "placement/machine.h"
#include "quant/format.h"

namespace packmule::placement {

/// Of so few tokens each is multiplied by itself, more are worked on together.
inline constexpr int64_t kFewTokens = 8;

/// A prompt's experts pass through a ring of slots on their way to a device (model/expert_stream.h).
inline constexpr int64_t kStreamSlots = 4, kStreamSlotBytes = int64_t{16} << 20;

/// What the user says about streaming experts of the host to a device that has their router.
struct Streaming {
  bool allowed = true;  // --no-op-offload: no
  int64_t from_tokens =
      0;  // --op-offload-min-batch: for ubatches of so many tokens and more; 0: when it is faster
};

/// What a run needs besides weights. Numbers of the cache and of the host's buffers come from those who
/// allocate them (cache/sequence.h, model/workspace.h).
struct Demand {
  int64_t n_ctx = 0;               // tokens of context, all sequences together
  int64_t ubatch = 0;              // tokens of a prompt that are computed at once
  int64_t n_sequences = 1;         // each has a recurrent state
  int64_t page_tokens = 1;         // KV memory comes in pages of so many tokens
  int64_t kv_row_bytes = 0;        // K and V of one token in one attention layer
  bool kv_in_blocks = false;       // K or V has a block format, not plain floats
  int64_t state_bytes = 0;         // recurrent and convolution state of one DeltaNet layer and sequence
  int64_t host_compute_bytes = 0;  // the CPU's buffers for a ubatch
  int64_t kept_bytes = 0;          // --cache-ram: what past conversations may take of the host's memory
  Streaming streaming;
  bool weights_in_memory = false;  // --load-mode copy or repack; else what memory has no room for stays on
                                   // the disk, where it is read when it is used

  /// Of a device's compute buffers, what streaming takes.
  [[nodiscard]] int64_t stream_bytes() const {
    return streaming.allowed && ubatch > kFewTokens ? kStreamSlots * kStreamSlotBytes : 0;
  }
  [[nodiscard]] int64_t kv_layer_bytes() const {
    return (n_ctx + page_tokens - 1) / page_tokens * page_tokens * kv_row_bytes;
  }
};

struct Placement {
  std::vector<Where> of_tensor;  // by index into the inventory
  std::vector<Where> home;       // per trunk layer: where its KV cache or recurrent state is
};

/// What a placement takes of one memory, in bytes.
struct Footprint {
  int64_t weights = 0;
  int64_t kv = 0;
  int64_t state = 0;
  int64_t compute = 0;
  [[nodiscard]] int64_t total() const { return weights + kv + state + compute; }
};
using Footprints = std::array<Footprint, kMaxProcessors>;

/// Tensors on a device begin at multiples of this; every limit of a Vulkan device divides it.
inline constexpr int64_t kDeviceAlignBytes = 256;
/// What a tensor takes where it is put.
[[nodiscard]] int64_t bytes_at(const Tensor& tensor, Where where);
/// KV cache or recurrent states of a layer.
[[nodiscard]] int64_t cache_bytes(const ModelShape& shape, const Demand& demand, int layer);
/// Buffers of a device that computes anything: the activations of a ubatch as model/device_layers.h lists
/// them, one row of logits for each sequence, tables, and the ring for streamed experts. Loading counts anew,
/// to the byte, what a placement uses.
[[nodiscard]] int64_t device_compute_bytes(const ModelShape& shape, const Demand& demand);

[[nodiscard]] Footprints footprints(const Inventory& inventory, const Demand& demand,
                                    const Placement& placement);

/// Bytes that are missing for the placement, over all memories: 0 when it fits. A tensor that is larger than
/// its device allocates at once counts whole. Weights on the host count only if they must be in memory.
[[nodiscard]] int64_t missing_bytes(const Inventory& inventory, const Machine& machine, const Demand& demand,
                                    const Placement& placement, const Footprints& footprints);

/// Share of the host's weights that its memory has no room for, 0 to 1.
[[nodiscard]] double share_on_disk(const Machine& machine, const Footprints& footprints);

}  // namespace packmule::placement
