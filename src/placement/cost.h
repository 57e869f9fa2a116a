// How long a token takes: the planner's model of time.
//
// One walk through the layers serves decode and prefill. For n tokens at once a stage that works on the
// device p takes
//
//   max(bytes touched / (p.read_bytes_s * format factor), multiplications / (p.multiply_add_s * product
//   factor))
//   + p.phase_s
//
// where the arithmetic counts only for more than kFewTokens (few are bound by bytes: docs/performance.md).
// Of an expert tensor n tokens touch the share 1 - (1 - used / experts)^n, the expectation for experts chosen
// evenly; of the embedding n rows; of anything else all.
//
// Stages of a layer, one after the other:
//   1. input projections of the mixer        where their tensors are
//   2. attention or delta rule               where the KV cache or the state is: its bytes are read, a state
//                                            is written as well; at a depth of d tokens attention reads d
//                                            rows of K and V and does 2 * heads * head size multiplications a
//                                            row
//   3. output projection of the mixer
//   4. norm and router
//   5. experts and shared expert: devices work side by side, the slowest counts. A device other than the
//      router's gets the activations and gives its sum back. If gate and up are not where down is, the stages
//      of an expert follow each other and the activations between them move.
// When the next stage is elsewhere, the activations move first:
//
//   hop_s + n * columns * 4 bytes / link_bytes_s       twice between two devices: by way of the host
//
// Prefill with experts on the host and the router on a device has a second way (model/expert_stream.h): the
// weights of all experts of the layer are streamed to the device while it computes,
//
//   max(bytes / stream rate, the device's own time for them + a phase a piece) + hop_s
//
// The stream rate is measured, or else the lesser of link_bytes_s and a third of the speed at which the host
// reads: each byte is read, written to staging memory, and read again by the device. From stream_threshold()
// tokens on a layer is streamed, here as by the model that follows the plan: the number from which this way
// is the faster one, or what the user says. (Sources: the peers' prefill is chunk * PCIe / expert bytes;
// their constant threshold of 32 tokens is wrong by a factor of 50 for 512 experts.)
//
// The share of the host's weights that has no room in memory is read from the disk first: bytes /
// disk_bytes_s for that share of what is touched.
#pragma once

#include <array>
#include <cstdint>

#include "placement/placement.h"

namespace packmule::placement {

/// Seconds, by what they were spent on. The parts add up to the time that passes: of work side by side only
/// the slowest is counted.
struct Seconds {
  std::array<double, kMaxProcessors> memory{};      // reading weights, caches and states
  std::array<double, kMaxProcessors> arithmetic{};  // stages bound by products
  double disk = 0;
  double link = 0;  // bytes over PCIe
  double hops = 0;  // waiting for a device to start or to have finished
  double phases = 0;

  [[nodiscard]] double total() const;
  Seconds& operator+=(const Seconds& other);
};

/// What the walk depends on besides the placement.
struct Pass {
  int64_t n_tokens = 1;
  int64_t depth = 0;         // tokens that the sequence has before
  double share_on_disk = 0;  // of the host's weights
  bool wants_logits = true;
};

class CostModel {
 public:
  /// All three must outlive it.
  CostModel(const Inventory& inventory, const Machine& machine, const Demand& demand)
      : inventory_(inventory), machine_(machine), demand_(demand) {}

  /// One layer, entered with the residual stream at `at`, which becomes where it is left.
  [[nodiscard]] Seconds layer(const Placement& placement, int layer, const Pass& pass, Where& at) const;
  /// Looking up the embedding; `at` becomes where it is.
  [[nodiscard]] Seconds embedding(const Placement& placement, const Pass& pass, Where& at) const;
  /// Final norm, logits of one token, and their way to the host.
  [[nodiscard]] Seconds head(const Placement& placement, const Pass& pass, Where at) const;
  /// All of it.
  [[nodiscard]] Seconds whole(const Placement& placement, const Pass& pass) const;

  /// Tokens of a ubatch from which on a layer's experts are streamed to the router's device; 0: never. Where
  /// the user does not say, the least that make it faster; never if it is faster neither for the ubatch of
  /// the demand nor for one of kMostTokens.
  [[nodiscard]] int64_t stream_threshold(const Placement& placement, int layer, double share_on_disk) const;
  static constexpr int64_t kMostTokens = 1 << 16;

 private:
  [[nodiscard]] Seconds work(const Tensor& tensor, Where where, const Pass& pass) const;
  [[nodiscard]] Seconds stage(const Placement& placement, int layer, Part part, const Pass& pass,
                              int64_t n_columns, Where& at) const;
  [[nodiscard]] Seconds mix(Where home, int layer, const Pass& pass) const;
  [[nodiscard]] Seconds move(Where from, Where to, int64_t n_tokens, int64_t n_columns) const;
  [[nodiscard]] Seconds experts(const Placement& placement, int layer, const Pass& pass, Where router) const;
  [[nodiscard]] int64_t threshold(const Placement& placement, int layer, Where router,
                                  double share_on_disk) const;
  [[nodiscard]] bool can_stream(const Placement& placement, int layer, Where router) const;
  [[nodiscard]] Seconds side_by_side(const Placement& placement, int layer, const Pass& pass,
                                     Where router) const;
  [[nodiscard]] double stream_bytes_s(const Processor& device) const;
  [[nodiscard]] Seconds streamed(const Placement& placement, int layer, const Pass& pass, Where router) const;

  const Inventory& inventory_;
  const Machine& machine_;
  const Demand& demand_;
};

}  // namespace packmule::placement
