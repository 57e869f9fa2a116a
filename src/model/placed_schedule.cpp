#include "model/placed_schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "model/device_limits.h"
#include "model/expert_stream.h"
#include "model/placed_layers.h"
#include "vulkan/upload.h"

namespace packmule::model {
namespace {

int64_t n_pages_of(int64_t n_tokens) {
  return (n_tokens + cache::kPageTokens - 1) / cache::kPageTokens;
}

/// Page table entries for sequences that are as long as the context allows; a table that is too small grows.
int64_t page_entries(const Placement& placement) {
  constexpr int64_t kLeast = 256;
  return std::max(kLeast, 2 * n_pages_of(placement.n_ctx) + placement.n_sequences);
}

}  // namespace

PlacedModel::PlacedModel(const Hparams& h, const cache::Layout& layout,
                         std::shared_ptr<const Placement> placement, int64_t n_tokens, int64_t n_logits)
    : h_(h),
      layout_(layout),
      placement_(std::move(placement)),
      n_tokens_(n_tokens),
      state_{.gpu = placement_->gpu,
             .tables = {n_tokens, n_logits, h.rope_dims / 2, page_entries(*placement_)},
             .n_experts_used = h.n_experts_used},
      layers_(h, layout, n_tokens, n_logits, state_, weights_) {}

Result<std::unique_ptr<PlacedModel>> PlacedModel::create(const Hparams& h, const cache::Layout& layout,
                                                         std::shared_ptr<const Placement> placement,
                                                         int64_t n_tokens, int64_t n_logits) {
  if (n_tokens > kMostDeviceTokens)
    return fail(ErrorKind::kInvalidArgument,
                "--ubatch-size: on a device at most {} tokens go through at once, found {}",
                kMostDeviceTokens, n_tokens);
  if (h.head_dim > vulkan::kMaxHeadDim || h.dk > kMostDeltaKey || h.n_experts > vulkan::kMaxExperts ||
      h.n_experts_used > vulkan::kMaxChosen)
    return fail(ErrorKind::kUnsupported,
                "heads of {} and {} values, {} of {} experts; a device takes heads of at most {} and {} and "
                "at most {} "
                "of {} experts: leave this model on the CPU (--device none)",
                h.head_dim, h.dk, h.n_experts_used, h.n_experts, vulkan::kMaxHeadDim, kMostDeltaKey,
                vulkan::kMaxChosen, vulkan::kMaxExperts);
  return std::unique_ptr<PlacedModel>(new PlacedModel(h, layout, std::move(placement), n_tokens, n_logits));
}

int64_t PlacedModel::streams_from(const MoeWeights& w, int layer) const {
  const ExpertStreaming& streaming = placement_->streaming;
  if (static_cast<size_t>(layer) >= streaming.from_tokens.size() || !w.router.on_device()) return 0;
  const int64_t from = streaming.from_tokens[static_cast<size_t>(layer)];
  bool any = false;
  for (const ExpertMatrices* matrices : {&w.gate, &w.up, &w.down}) {
    if (matrices->on_device()) continue;
    any = true;
    if (streamed_expert_bytes(*matrices) > streaming.slot_bytes) return 0;
  }
  return any && from > 0 ? std::max(from, ExpertStreaming::kLeastTokens) : 0;
}

void PlacedModel::compile(const Weights& weights, Workspace& ws, const kernels::Kernels& kernels,
                          int64_t span_tokens, int n_threads) {
  std::vector<int64_t> from_tokens;
  for (int layer = 0; layer < h_.n_layers; ++layer)
    from_tokens.push_back(streams_from(weights.layers[static_cast<size_t>(layer)].moe, layer));
  std::set<int64_t> numbers(from_tokens.begin(), from_tokens.end());
  numbers.insert(0);
  for (const int64_t number : numbers) {
    if (number > n_tokens_) break;  // no batch is so large
    std::vector<bool> streamed;
    for (const int64_t from : from_tokens) streamed.push_back(from > 0 && from <= number);
    PlacedLayers layers(h_, layout_, weights, ws, kernels, span_tokens, n_threads, state_, layers_, streamed,
                        ring_);
    schedules_.push_back({number, layers.compile()});
  }
}

const Schedule& PlacedModel::schedule(int64_t n_tokens) const {
  const ScheduleFrom* chosen = schedules_.data();
  for (const ScheduleFrom& schedule : schedules_)
    if (schedule.from_tokens <= n_tokens) chosen = &schedule;
  return chosen->steps;
}

Status PlacedModel::load(const gguf::File& file) {
  const runtime::Gpu& gpu = *state_.gpu;
  PACKMULE_TRY(const int64_t weight_bytes, weights_.size_bytes(gpu));
  PACKMULE_TRY(const int64_t value_bytes, state_.values.device_bytes(gpu));
  // Where there is one memory for both sides, what both see is in it too: staging, and the ring of the
  // upload.
  const bool one_memory = gpu.device()->info().heaps.size() == 1;
  const int64_t upload_bytes = vulkan::Uploader::kSlots * vulkan::Uploader::kSlotBytes;
  const int64_t stream_bytes = streams_from() > 0 ? ring_bytes() : 0;
  const int64_t work_bytes =
      value_bytes + state_.tables.size_bytes() + stream_bytes +
      (one_memory ? state_.values.staging_bytes() + state_.tables.size_bytes() + stream_bytes + upload_bytes
                  : 0);
  const int64_t page_bytes =
      n_pages_of(placement_->n_ctx) * (runtime::DeviceCaches::page_bytes(layout_) + vulkan::kArenaAlignment);
  const int64_t state_bytes = placement_->n_sequences * runtime::DeviceCaches::state_bytes(layout_);
  PACKMULE_TRY_STATUS(
      gpu.check_room(weight_bytes + work_bytes + page_bytes + state_bytes,
                     fmt::format("{} of weights, {} of KV cache, {} of recurrent state, {} of work space",
                                 weight_bytes, page_bytes, state_bytes, work_bytes)));
  PACKMULE_TRY_STATUS(weights_.allocate(gpu));
  PACKMULE_TRY_STATUS(state_.values.allocate(gpu));
  PACKMULE_TRY_STATUS(state_.tables.allocate(gpu));
  if (stream_bytes > 0) {
    const ExpertStreaming& streaming = placement_->streaming;
    PACKMULE_TRY(ring_, vulkan::StreamRing::create(gpu.device(), streaming.n_slots, streaming.slot_bytes));
  }
  device_bytes_ = weight_bytes + value_bytes + state_.tables.size_bytes() + stream_bytes;
  return weights_.upload(gpu, file);
}

std::shared_ptr<cache::DeviceMemory> PlacedModel::new_caches() const {
  if (!layout_.has_device_layers()) return nullptr;
  return std::make_shared<runtime::DeviceCaches>(state_.gpu, layout_);
}

void PlacedModel::watch_memory() {
  constexpr int64_t kPassesBetweenLooks = 16;  // a look takes some microseconds
  if (!placement_->warn || n_passes_++ % kPassesBetweenLooks != 0) return;
  const int64_t over = state_.gpu->device()->over_budget_bytes();
  if (over > 0 && !is_over_budget_)
    placement_->warn(fmt::format(
        "{}: other programs want its memory: the driver lets packmule have {} bytes less than it has taken, "
        "and may "
        "move as much to memory where every token is slow; close them, or place less there (-ngl, --cpu-moe)",
        state_.gpu->device()->info().id, over));
  is_over_budget_ = over > 0;
}

Status PlacedModel::begin(const Pass& pass) {
  watch_memory();
  // What the last pass handed over may still read the tables, if that pass failed.
  PACKMULE_TRY_STATUS(state_.finish());
  runtime::DeviceBatch& batch = state_.batch;
  batch.n_rows = pass.n_rows;
  batch.n_logits = static_cast<int64_t>(pass.logit_rows.size());
  batch.slices.resize(pass.slices.size());
  const auto device_state = [](const cache::RecurrentState& state) {
    return static_cast<const runtime::DeviceCaches::DeviceState*>(state.on_device());
  };
  for (size_t i = 0; i < pass.slices.size(); ++i) {
    const SliceRows& from = pass.slices[i];
    runtime::DeviceSlice& slice = batch.slices[i];
    slice.row = from.row;
    slice.n_rows = from.n_rows;
    slice.position = from.position;
    slice.state = device_state(from.sequence->recurrent());
    slice.pages = from.sequence->page_numbers();
    slice.stretches.clear();
    int64_t begin = 0;
    for (const Mark& mark : from.marks) {
      slice.stretches.push_back(
          {begin, mark.n_tokens, mark.copy_to == nullptr ? nullptr : device_state(*mark.copy_to)});
      begin = mark.n_tokens;
    }
    if (begin < from.n_rows) slice.stretches.push_back({begin, from.n_rows, nullptr});
  }
  return state_.tables.fill(
      *state_.gpu, batch,
      {.tokens = pass.tokens, .logit_rows = pass.logit_rows, .cosines = pass.ws.cos, .sines = pass.ws.sin});
}

}  // namespace packmule::model
