#include "cli/place_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/cpu.h"
#include "cli/measure_machine.h"
#include "cli/plan_request.h"
#include "gguf/file.h"
#include "model/model.h"
#include "placement/words.h"
#include "runtime/gpu.h"

namespace packmule::cli {
namespace {

constexpr placement::Where kDevice = 1;  // the only one
/// Tokens in the cache that decoding is judged at, if the context has room for them.
constexpr int64_t kDepth = 4096;

std::string megabytes(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6);
}

std::string tier_text(const placement::Footprint& taken) {
  return fmt::format("{} of weights, {} of KV cache, {} of recurrent state", megabytes(taken.weights),
                     megabytes(taken.kv), megabytes(taken.state));
}

/// What a prompt streams, of ubatches that there will be.
std::string streaming_text(const placement::Plan& plan, const placement::Demand& demand) {
  if (!plan.has_ring && demand.stream_bytes() > 0) return "; no room is left to stream experts for prompts";
  std::vector<int> layers;
  int64_t least = 0, most = 0;
  for (const StreamedLayers& some : streamed_layers(plan)) {
    if (some.from_tokens > plan.prefill_tokens) break;
    if (layers.empty()) least = some.from_tokens;
    most = some.from_tokens;
    layers.insert(layers.end(), some.layers.begin(), some.layers.end());
  }
  if (layers.empty()) return "";
  std::ranges::sort(layers);
  return fmt::format("; prompts of at least {} tokens stream their experts of {} to it",
                     least == most ? std::to_string(least) : fmt::format("{} to {}", least, most),
                     placement::layer_words(layers));
}

std::shared_ptr<model::Placement> follow(const placement::Request& request, const placement::Plan& plan) {
  auto placement = std::make_shared<model::Placement>();
  const auto& tensors = request.inventory.tensors;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (plan.placement.of_tensor[i] == kDevice && tensors[i].part != placement::Part::kUnused)
      placement->tensors.insert(tensors[i].name);
  for (const placement::Where home : plan.placement.home) placement->caches.push_back(home == kDevice);
  placement->streaming = {.from_tokens = plan.stream_from,
                          .n_slots = placement::kStreamSlots,
                          .slot_bytes = placement::kStreamSlotBytes};
  placement->n_ctx = request.demand.n_ctx;
  placement->n_sequences = request.demand.n_sequences;
  return placement;
}

}  // namespace

void check_rules(const PlacementFlags& flags) {
  const auto throw_if = [](const auto& result) {
    if (!result) throw CLI::ValidationError(result.error().message);
  };
  PlacementFlags without_device = flags;
  without_device.devices = "none";
  without_device.device_memory_bytes.clear();
  const auto host = machine_of(without_device, 1);
  throw_if(host);
  if (flags.devices.empty() && rules_of(flags, *host)) return;
  const auto device = device_of(flags);
  throw_if(device);
  const auto machine = *device ? machine_of(flags, 1, *device) : host;
  throw_if(machine);
  throw_if(rules_of(flags, *machine));
}

Result<std::string> place_model(const PlacementFlags& flags, engine::EngineOptions& options,
                                std::function<void(const std::string&)> warn) {
  PACKMULE_TRY(const auto device, device_of(flags));
  if (!device) {
    if (flags.n_gpu_layers.value_or(0) == 0) return std::string();
    return std::string(
        "note: -ngl has no effect: there is no graphics card to compute on, everything is on the CPU "
        "(--list-devices "
        "shows what there is; --device takes one by name)");
  }
  PACKMULE_TRY(const Isa isa, choose_isa());
  PACKMULE_TRY(const gguf::File file, gguf::File::open(options.model_path));
  PACKMULE_TRY(const model::Hparams hparams, model::Hparams::read(file));
  engine::EngineOptions filled = engine::filled_in(options, hparams.context_length);
  const model::ModelOptions model_options{.isa = isa,
                                          .k_type = options.k_type,
                                          .v_type = options.v_type,
                                          .load_mode = options.load_mode,
                                          .logit_rows = options.n_parallel};
  PACKMULE_TRY(const int64_t fitting, engine::ubatch_for(options, file, model_options, filled.n_threads));
  filled.ubatch_size = options.ubatch_size = std::min(fitting, filled.ctx_size);

  const Demands demands(file, isa, flags.streaming);
  placement::Request request;
  PACKMULE_TRY(request.demand, demands.of(filled));
  request.inventory = placement::Inventory::make(model_shape(hparams), file.tensors());
  PACKMULE_TRY(request.machine, machine_of(flags, filled.n_threads, device));
  PACKMULE_TRY(request.rules, rules_of(flags, request.machine));
  PACKMULE_TRY(auto gpu, runtime::Gpu::open(device->id, policy_of(flags, request.machine.at(kDevice))));
  (void)measure_machine(flags, hparams, filled, isa, request.inventory, gpu.get(), request.machine);
  request.depth = std::min(kDepth, filled.ctx_size - 1);
  PACKMULE_TRY(const placement::Plan plan, plan_or_advise(request, demands, filled));

  auto placement = follow(request, plan);
  if (placement->tensors.empty() && std::ranges::count(placement->caches, true) == 0)
    return fmt::format("{} ({}): nothing goes there, everything is on the CPU", device->id, device->name);
  placement->gpu = std::move(gpu);
  std::string line =
      fmt::format("{}; there: {}; on the CPU: {}", placement->gpu->describe(),
                  tier_text(plan.footprints[kDevice]), tier_text(plan.footprints[placement::kHost]));
  line += streaming_text(plan, request.demand);
  placement->warn = std::move(warn);
  options.placement = std::move(placement);
  return line;
}

}  // namespace packmule::cli
