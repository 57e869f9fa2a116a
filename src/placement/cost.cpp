#include "placement/cost.h"

#include <algorithm>
#include <cmath>

namespace packmule::placement {
namespace {

constexpr double kFloatBytes = 4;

double used_share(const ModelShape& shape) {
  return static_cast<double>(shape.n_experts_used) / static_cast<double>(shape.n_experts);
}

double touched_bytes(const ModelShape& shape, const Tensor& tensor, int64_t n_tokens) {
  const auto per_token = static_cast<double>(tensor.bytes_per_token);
  if (n_tokens == 1) return per_token;
  if (tensor.part == Part::kEmbedding) return per_token * static_cast<double>(n_tokens);
  if (!is_expert(tensor.part) || tensor.bytes_per_token == tensor.bytes) return per_token;
  return static_cast<double>(tensor.bytes) *
         (1 - std::pow(1 - used_share(shape), static_cast<double>(n_tokens)));
}

/// The branch that takes longer.
const Seconds& slower(const Seconds& a, const Seconds& b) {
  return a.total() >= b.total() ? a : b;
}

}  // namespace

double Seconds::total() const {
  double sum = disk + link + hops + phases;
  for (size_t p = 0; p < kMaxProcessors; ++p) sum += memory[p] + arithmetic[p];
  return sum;
}

Seconds& Seconds::operator+=(const Seconds& other) {
  for (size_t p = 0; p < kMaxProcessors; ++p) {
    memory[p] += other.memory[p];
    arithmetic[p] += other.arithmetic[p];
  }
  disk += other.disk;
  link += other.link;
  hops += other.hops;
  phases += other.phases;
  return *this;
}

Seconds CostModel::work(const Tensor& tensor, Where where, const Pass& pass) const {
  const ModelShape& shape = inventory_.shape;
  const Processor& p = machine_.at(where);
  const auto n = static_cast<double>(pass.n_tokens);
  const double touched = touched_bytes(shape, tensor, pass.n_tokens);
  double products = tensor.part == Part::kEmbedding ? 0 : static_cast<double>(tensor.n_elems);
  if (is_expert(tensor.part)) products *= used_share(shape);
  const auto product_factor = static_cast<double>(p.product_factor[static_cast<size_t>(tensor.type)]);
  const double reading =
      touched / (p.read_bytes_s * static_cast<double>(p.format_factor[static_cast<size_t>(tensor.type)]));
  const double computing =
      pass.n_tokens > kFewTokens ? products * n / (p.multiply_add_s * product_factor) : 0;
  Seconds s;
  (computing > reading ? s.arithmetic : s.memory)[static_cast<size_t>(where)] = std::max(computing, reading);
  if (where == kHost && pass.share_on_disk > 0) s.disk = touched * pass.share_on_disk / machine_.disk_bytes_s;
  return s;
}

Seconds CostModel::move(Where from, Where to, int64_t n_tokens, int64_t n_columns) const {
  Seconds s;
  if (from == to) return s;
  const double bytes = static_cast<double>(n_tokens * n_columns) * kFloatBytes;
  for (const Where end : {from, to})
    if (end != kHost) {
      s.hops += machine_.at(end).hop_s;
      s.link += bytes / machine_.at(end).link_bytes_s;
    }
  return s;
}

/// The tensors of one part. The activations end where the last of them is.
Seconds CostModel::stage(const Placement& placement, int layer, Part part, const Pass& pass,
                         int64_t n_columns, Where& at) const {
  Seconds s;
  std::array<bool, kMaxProcessors> works{};
  for (const int t : inventory_.of_layer[static_cast<size_t>(layer)]) {
    const Tensor& tensor = inventory_.tensors[static_cast<size_t>(t)];
    if (tensor.part != part) continue;
    const Where where = placement.of_tensor[static_cast<size_t>(t)];
    s += work(tensor, where, pass);
    works[static_cast<size_t>(where)] = true;
  }
  const auto visit = [&](Where where) {
    s += move(at, where, pass.n_tokens, n_columns);
    at = where;
    s.phases += machine_.at(where).phase_s;
    works[static_cast<size_t>(where)] = false;
  };
  if (works[static_cast<size_t>(at)]) visit(at);
  for (size_t p = 0; p < machine_.processors.size(); ++p)
    if (works[p]) visit(static_cast<Where>(p));
  return s;
}

Seconds CostModel::mix(Where home, int layer, const Pass& pass) const {
  const ModelShape& shape = inventory_.shape;
  const Processor& p = machine_.at(home);
  const auto n = static_cast<double>(pass.n_tokens);
  const bool recurrent = shape.recurrent[static_cast<size_t>(layer)];
  double bytes = 0;
  double products = 0;
  double factor = 1;
  if (recurrent) {
    bytes = 2 * static_cast<double>(demand_.state_bytes);
    products = 3 * n * static_cast<double>(shape.state_values);
  } else {
    // The mean token of the pass sees half of the pass's own tokens besides those before.
    const double seen = static_cast<double>(pass.depth) + (n + 1) / 2;
    const double rows_read = static_cast<double>(pass.depth) + n;
    bytes = rows_read * static_cast<double>(demand_.kv_row_bytes);
    products = 2 * n * seen * static_cast<double>(shape.n_heads * shape.head_dim);
    factor = demand_.kv_in_blocks ? p.cache_factor_blocks : p.cache_factor_16;
  }
  const double reading = bytes / (p.read_bytes_s * factor);
  const double computing = pass.n_tokens > kFewTokens ? products / p.multiply_add_s : 0;
  Seconds s;
  (computing > reading ? s.arithmetic : s.memory)[static_cast<size_t>(home)] = std::max(computing, reading);
  s.phases = p.phase_s;
  return s;
}

Seconds CostModel::layer(const Placement& placement, int layer, const Pass& pass, Where& at) const {
  const ModelShape& shape = inventory_.shape;
  const Where home = placement.home[static_cast<size_t>(layer)];
  Seconds s = stage(placement, layer, Part::kMixerIn, pass, shape.hidden, at);
  s += move(at, home, pass.n_tokens, shape.in_columns);
  at = home;
  s += mix(home, layer, pass);
  for (const int t : inventory_.of_layer[static_cast<size_t>(layer)])
    if (const Tensor& tensor = inventory_.tensors[static_cast<size_t>(t)]; tensor.part == Part::kMixerSmall)
      s += work(tensor, placement.of_tensor[static_cast<size_t>(t)], pass);
  s += stage(placement, layer, Part::kMixerOut, pass, shape.mixed_columns, at);
  s += stage(placement, layer, Part::kRouter, pass, shape.hidden, at);
  s += experts(placement, layer, pass, at);
  return s;
}

Seconds CostModel::experts(const Placement& placement, int layer, const Pass& pass, Where router) const {
  if (pass.n_tokens > kFewTokens) {
    const int64_t from = threshold(placement, layer, router, pass.share_on_disk);
    if (from > 0 && pass.n_tokens >= from) return streamed(placement, layer, pass, router);
  }
  return side_by_side(placement, layer, pass, router);
}

Seconds CostModel::side_by_side(const Placement& placement, int layer, const Pass& pass, Where router) const {
  const ModelShape& shape = inventory_.shape;
  std::array<Seconds, kMaxProcessors> shared{}, in{}, down{};
  std::array<bool, kMaxProcessors> has_shared{}, has_in{}, has_down{};
  for (const int t : inventory_.of_layer[static_cast<size_t>(layer)]) {
    const Tensor& tensor = inventory_.tensors[static_cast<size_t>(t)];
    const auto w = static_cast<size_t>(placement.of_tensor[static_cast<size_t>(t)]);
    const Seconds s = work(tensor, static_cast<Where>(w), pass);
    if (tensor.part == Part::kShared) {
      shared[w] += s;
      has_shared[w] = true;
    } else if (tensor.part == Part::kExpertGate || tensor.part == Part::kExpertUp) {
      in[w] += s;
      has_in[w] = true;
    } else if (tensor.part == Part::kExpertDown) {
      down[w] += s;
      has_down[w] = true;
    }
  }
  const size_t n = machine_.processors.size();
  const bool whole = has_in == has_down && std::count(has_in.begin(), has_in.end(), true) == 1;
  const auto with_way = [&](Seconds s, size_t p, int n_phases) {
    s += move(router, static_cast<Where>(p), pass.n_tokens, shape.hidden);
    s += move(static_cast<Where>(p), router, pass.n_tokens, shape.hidden);
    s.phases += n_phases * machine_.processors[p].phase_s;
    return s;
  };
  if (whole) {
    Seconds slowest;
    for (size_t p = 0; p < n; ++p) {
      if (!has_in[p] && !has_shared[p]) continue;
      Seconds s = in[p];
      s += down[p];
      s += shared[p];
      slowest = slower(slowest, with_way(s, p, 2));
    }
    return slowest;
  }
  // An expert's matrices are apart: its two stages follow each other, the shared expert goes beside them.
  const int64_t n_pairs = pass.n_tokens * shape.n_experts_used;
  Seconds chain, slowest_shared;
  for (size_t p = 0; p < n; ++p) {
    if (has_shared[p]) slowest_shared = slower(slowest_shared, with_way(shared[p], p, 2));
    if (!has_in[p]) continue;
    Seconds s = in[p];
    s += move(router, static_cast<Where>(p), pass.n_tokens, shape.hidden);
    s.phases += machine_.processors[p].phase_s;
    chain = slower(chain, s);
  }
  const auto down_at =
      static_cast<size_t>(std::find(has_down.begin(), has_down.end(), true) - has_down.begin());
  for (size_t p = 0; p < n; ++p)
    if (has_in[p])
      chain += move(static_cast<Where>(p), static_cast<Where>(down_at), n_pairs, shape.expert_ff);
  chain += down[down_at];
  chain += move(static_cast<Where>(down_at), router, pass.n_tokens, shape.hidden);
  chain.phases += machine_.processors[down_at].phase_s;
  return slower(chain, slowest_shared);
}

bool CostModel::can_stream(const Placement& placement, int layer, Where router) const {
  if (router == kHost || demand_.stream_bytes() == 0) return false;
  bool any = false;
  for (const int t : inventory_.of_layer[static_cast<size_t>(layer)]) {
    const Tensor& tensor = inventory_.tensors[static_cast<size_t>(t)];
    if (!is_expert(tensor.part) || placement.of_tensor[static_cast<size_t>(t)] != kHost) continue;
    if (tensor.bytes / inventory_.shape.n_experts > kStreamSlotBytes) return false;
    any = true;
  }
  return any;
}

double CostModel::stream_bytes_s(const Processor& device) const {
  constexpr double kTimesOverHostMemory = 3;
  if (device.stream_bytes_s > 0) return device.stream_bytes_s;
  return std::min(device.link_bytes_s, machine_.host().read_bytes_s / kTimesOverHostMemory);
}

Seconds CostModel::streamed(const Placement& placement, int layer, const Pass& pass, Where router) const {
  const Processor& device = machine_.at(router);
  Placement moved = placement;
  double streamed_bytes = 0;
  for (const int t : inventory_.of_layer[static_cast<size_t>(layer)]) {
    const Tensor& tensor = inventory_.tensors[static_cast<size_t>(t)];
    Where& where = moved.of_tensor[static_cast<size_t>(t)];
    if (!is_expert(tensor.part) || where != kHost) continue;
    streamed_bytes += static_cast<double>(tensor.bytes);
    where = router;
  }
  Seconds computing = side_by_side(moved, layer, pass, router);
  computing.phases += std::ceil(streamed_bytes / static_cast<double>(kStreamSlotBytes)) * device.phase_s;
  Seconds streaming;
  streaming.link = streamed_bytes / stream_bytes_s(device);
  Seconds s = slower(computing, streaming);
  s.hops += device.hop_s;
  s.disk += streamed_bytes * pass.share_on_disk / machine_.disk_bytes_s;
  return s;
}

Seconds CostModel::embedding(const Placement& placement, const Pass& pass, Where& at) const {
  at = placement.of_tensor[static_cast<size_t>(inventory_.embedding)];
  Seconds s = work(inventory_.tensors[static_cast<size_t>(inventory_.embedding)], at, pass);
  s.phases = machine_.at(at).phase_s;
  return s;
}

Seconds CostModel::head(const Placement& placement, const Pass& pass, Where at) const {
  Seconds s;
  if (!pass.wants_logits) return s;
  Pass one = pass;
  one.n_tokens = 1;
  for (const int t : inventory_.output) {
    const Where where = placement.of_tensor[static_cast<size_t>(t)];
    s += move(at, where, 1, inventory_.shape.hidden);
    at = where;
    s += work(inventory_.tensors[static_cast<size_t>(t)], where, one);
    s.phases += machine_.at(where).phase_s;
  }
  s += move(at, kHost, 1, inventory_.shape.n_vocab);
  return s;
}

Seconds CostModel::whole(const Placement& placement, const Pass& pass) const {
  Where at = kHost;
  Seconds s = embedding(placement, pass, at);
  for (int layer = 0; layer < inventory_.shape.n_layers; ++layer)
    s += this->layer(placement, layer, pass, at);
  s += head(placement, pass, at);
  return s;
}

int64_t CostModel::stream_threshold(const Placement& placement, int layer, double share) const {
  // Where the router is, is where the stages before it leave the activations.
  Pass pass{.n_tokens = 1, .share_on_disk = share};
  Where router = kHost;
  (void)stage(placement, layer, Part::kRouter, pass, inventory_.shape.hidden, router);
  return threshold(placement, layer, router, share);
}

int64_t CostModel::threshold(const Placement& placement, int layer, Where router, double share) const {
  if (!can_stream(placement, layer, router)) return 0;
  if (demand_.streaming.from_tokens > 0) return std::max(demand_.streaming.from_tokens, kFewTokens + 1);
  Pass pass{.n_tokens = 1, .share_on_disk = share};
  const auto is_faster = [&](int64_t n_tokens) {
    pass.n_tokens = n_tokens;
    return streamed(placement, layer, pass, router).total() <
           side_by_side(placement, layer, pass, router).total();
  };
  int64_t faster_at = kMostTokens;
  if (!is_faster(faster_at)) faster_at = std::max(demand_.ubatch, kFewTokens + 1);
  if (!is_faster(faster_at)) return 0;
  int64_t slower_at = kFewTokens;  // experts() does not ask for fewer
  while (faster_at - slower_at > 1) {
    const int64_t middle = (slower_at + faster_at) / 2;
    (is_faster(middle) ? faster_at : slower_at) = middle;
  }
  return faster_at;
}

}  // namespace packmule::placement
