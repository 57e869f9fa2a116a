// packmule plan: where everything would go and how fast that would be, without loading anything.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "base/cpu.h"
#include "cache/sequence.h"
#include "cli/common_flags.h"
#include "cli/measure_machine.h"
#include "cli/placement_flags.h"
#include "cli/plan_report.h"
#include "cli/plan_request.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace packmule::cli {
namespace {

/// Tokens in the cache that decoding is judged at, if the context has room for them.
constexpr int64_t kDefaultDepth = 4096;

struct PlanOptions {
  engine::EngineOptions engine;
  PlacementFlags placement;
  SamplingFlags sampling;  // read so that they are checked; they change nothing here
  int64_t depth = kDefaultDepth;
  bool json = false;
};

Status print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return fail(ErrorKind::kIo, "cannot write to the standard output: {}", std::strerror(errno));
  return {};
}

/// A real device is planned for if it is named, or if there is one to use and none is imagined.
Result<std::optional<vulkan::DeviceInfo>> device_to_plan_for(const PlacementFlags& flags) {
  const bool imagines = !flags.device_memory_bytes.empty();
  if (imagines && flags.devices.empty()) return std::nullopt;
  auto device = device_of(flags);
  if (!device && imagines) return std::nullopt;
  if (!device)
    return fail(device.error().kind, "{}; 'packmule plan' can imagine one: --device-memory 8G",
                device.error().message);
  return device;
}

Status plan(const PlanOptions& options) {
  PACKMULE_TRY(const Isa isa, choose_isa());
  PACKMULE_TRY(const gguf::File file, gguf::File::open(options.engine.model_path));
  PACKMULE_TRY(const model::Hparams hparams, model::Hparams::read(file));
  const engine::EngineOptions engine = engine::filled_in(options.engine, hparams.context_length);
  const Demands demands(file, isa, options.placement.streaming);

  PlanReport report;
  report.model_path = file.path();
  report.model_name = hparams.name;
  report.k_type = quant::format_of(engine.k_type).name;
  report.v_type = quant::format_of(engine.v_type).name;
  report.n_threads = engine.n_threads;
  report.isa = isa_name(isa);
  placement::Request& request = report.request;
  PACKMULE_TRY(request.demand, demands.of(engine));
  request.inventory = placement::Inventory::make(model_shape(hparams), file.tensors());
  PACKMULE_TRY(const auto device, device_to_plan_for(options.placement));
  PACKMULE_TRY(request.machine, machine_of(options.placement, engine.n_threads, device));
  std::shared_ptr<runtime::Gpu> gpu;
  if (device) {
    PACKMULE_TRY(gpu, runtime::Gpu::open(device->id, policy_of(options.placement, request.machine.at(1))));
  }
  report.measured =
      measure_machine(options.placement, hparams, engine, isa, request.inventory, gpu.get(), request.machine);
  PACKMULE_TRY(request.rules, rules_of(options.placement, request.machine));
  request.depth = std::min(options.depth, engine.ctx_size - 1);
  PACKMULE_TRY(report.plan, plan_or_advise(request, demands, engine));
  report.rules = placement::explain(request, report.plan);
  if (!report.rules.empty()) {
    placement::Request free = request;
    free.rules = {};
    free.wants_advice = false;
    if (const auto without = placement::plan(free)) report.decode_without_rules_s = without->decode.total();
  }
  return print(options.json ? plan_json(report) : plan_text(report));
}

/// Errors of the flags among each other are errors of the command line, found before the file is opened.
void check_together(const PlacementFlags& flags) {
  const auto device = device_to_plan_for(flags);
  if (!device) throw CLI::ValidationError(device.error().message);
  const auto machine = machine_of(flags, 1, *device);
  if (!machine) throw CLI::ValidationError(machine.error().message);
  if (const auto rules = rules_of(flags, *machine); !rules) throw CLI::ValidationError(rules.error().message);
}

}  // namespace

void add_plan(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* verb =
      app.add_subcommand("plan", "Show what would go where and how fast it would be, without loading");
  add_engine_flags(*verb, options->engine);
  add_context_flag(*verb, options->engine);
  add_rule_flags(*verb, options->placement);
  add_machine_flags(*verb, options->placement);
  add_sampling_flags(*verb, options->sampling);
  add_parallel_flags(*verb, options->engine);
  add_accepted_flags(*verb);
  verb->add_option("-d,--depth", options->depth,
                   "Tokens in the cache that the speed of decoding is judged at")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print JSON, with every tensor");
  for (const char* flag : {"--host", "--port", "--api-key", "-a,--alias", "--chat-template-file"})
    verb->add_option_function<std::string>(
            flag, [](const std::string&) {}, "Of the server (accepted, changes nothing)")
        ->group("Server");
  verb->callback([options, &chosen] {
    check_together(options->placement);
    chosen = [options] { return plan(*options); };
  });
}

}  // namespace packmule::cli
