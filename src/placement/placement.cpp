#include "placement/placement.h"

#include <algorithm>

namespace packmule::placement {
namespace {

constexpr int64_t kFloatBytes = 4;

constexpr int64_t aligned(int64_t n_bytes) {
  return (n_bytes + kDeviceAlignBytes - 1) / kDeviceAlignBytes * kDeviceAlignBytes;
}

}  // namespace

int64_t bytes_at(const Tensor& tensor, Where where) {
  if (tensor.part == Part::kUnused) return 0;
  if (where == kHost) return tensor.tied ? 0 : tensor.bytes;
  return aligned(tensor.bytes);
}

int64_t cache_bytes(const ModelShape& shape, const Demand& demand, int layer) {
  return shape.recurrent[static_cast<size_t>(layer)] ? demand.state_bytes * demand.n_sequences
                                                     : demand.kv_layer_bytes();
}

int64_t device_compute_bytes(const ModelShape& shape, const Demand& demand) {
  const int64_t n_tokens = demand.ubatch + demand.n_sequences - 1;
  const int64_t n_pairs = n_tokens * shape.n_experts_used;
  const auto rows = [](int64_t n_rows, int64_t n_cols) { return aligned(n_rows * n_cols * kFloatBytes); };
  // Scratch: two matrices for each chunk and head of the delta rule, and parts of attention.
  constexpr int64_t kChunk = 64, kMostChunks = 8, kMostParts = 256;
  const int64_t n_chunks = std::min(kMostChunks, (n_tokens + kChunk - 1) / kChunk);
  const int64_t scratch = rows(n_chunks * shape.n_delta_heads, 2 * kChunk * (kChunk + 1)) +
                          rows(kMostParts * shape.n_heads, shape.head_dim + 2);
  // Rows rounded to bytes, with a scale for 32 of them.
  const auto rounded = [&](int64_t n_rows, int64_t n_cols) {
    return rows(n_rows, (n_cols + 3) / 4) + rows(n_rows, (n_cols + 31) / 32);
  };
  return rounded(n_tokens, shape.hidden) + rounded(n_tokens, shape.mixed_columns) +
         rounded(n_pairs, shape.expert_ff) + rounded(n_tokens, shape.shared_ff) +
         4 * rows(n_tokens, shape.hidden) + rows(n_tokens, shape.in_columns) +
         2 * rows(n_tokens, shape.mixed_columns) + rows(n_tokens, shape.n_heads * shape.head_dim) +
         2 * rows(n_tokens, shape.n_delta_heads) + rows(n_tokens, shape.n_experts) + 8 * rows(n_pairs, 1) +
         rows(1, 8 * shape.n_experts) + 2 * rows(n_pairs, shape.expert_ff) + rows(n_pairs, shape.hidden) +
         2 * rows(n_tokens, shape.shared_ff) + 4 * rows(n_tokens, shape.head_dim) +
         rows(demand.n_sequences, shape.n_vocab + shape.hidden) + scratch + demand.stream_bytes();
}

Footprints footprints(const Inventory& inventory, const Demand& demand, const Placement& placement) {
  Footprints all{};
  for (size_t t = 0; t < inventory.tensors.size(); ++t) {
    const Where where = placement.of_tensor[t];
    all[static_cast<size_t>(where)].weights += bytes_at(inventory.tensors[t], where);
  }
  for (size_t layer = 0; layer < placement.home.size(); ++layer) {
    Footprint& home = all[static_cast<size_t>(placement.home[layer])];
    (inventory.shape.recurrent[layer] ? home.state : home.kv) +=
        cache_bytes(inventory.shape, demand, static_cast<int>(layer));
  }
  all[kHost].compute = demand.host_compute_bytes;
  all[kHost].state += demand.kept_bytes;
  for (size_t d = 1; d < all.size(); ++d)
    if (all[d].total() > 0) all[d].compute = device_compute_bytes(inventory.shape, demand);
  return all;
}

int64_t missing_bytes(const Inventory& inventory, const Machine& machine, const Demand& demand,
                      const Placement& placement, const Footprints& footprints) {
  int64_t missing = 0;
  for (size_t p = 0; p < machine.processors.size(); ++p) {
    int64_t needed = footprints[p].total();
    if (p == kHost && !demand.weights_in_memory) needed -= footprints[p].weights;
    missing += std::max<int64_t>(0, needed - machine.processors[p].budget_bytes());
  }
  for (size_t t = 0; t < inventory.tensors.size(); ++t) {
    const Tensor& tensor = inventory.tensors[t];
    const int64_t most = machine.at(placement.of_tensor[t]).max_tensor_bytes;
    if (tensor.part != Part::kUnused && most > 0 && tensor.bytes > most) missing += tensor.bytes;
  }
  return missing;
}

double share_on_disk(const Machine& machine, const Footprints& footprints) {
  const Footprint& host = footprints[kHost];
  const int64_t room = std::max<int64_t>(0, machine.host().budget_bytes() - host.total() + host.weights);
  if (host.weights <= room) return 0;
  return static_cast<double>(host.weights - room) / static_cast<double>(host.weights);
}

}  // namespace packmule::placement
