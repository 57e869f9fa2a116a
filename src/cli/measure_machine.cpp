#include "cli/measure_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

#include "calibration/device.h"
#include "calibration/host.h"
#include "calibration/speed_file.h"

namespace packmule::cli {
namespace {

/// The formats that a token's weights are read in, the one with most bytes first.
std::vector<quant::Type> formats_in_use(const placement::Inventory& inventory) {
  std::map<quant::Type, int64_t> bytes;
  for (const placement::Tensor& tensor : inventory.tensors)
    if (tensor.part != placement::Part::kUnused && tensor.part != placement::Part::kEmbedding &&
        tensor.part != placement::Part::kMixerSmall)
      bytes[tensor.type] += tensor.bytes_per_token;
  std::vector<quant::Type> types;
  for (const auto& [type, _] : bytes) types.push_back(type);
  std::ranges::stable_sort(types, std::greater{}, [&](quant::Type type) { return bytes[type]; });
  return types;
}

calibration::Outcome outcome_of(const Result<calibration::Outcome>& result, std::string_view what) {
  if (!result) {
    fmt::print(stderr, "warning: {} could not be measured: {}\n", what, result.error().message);
    return {};
  }
  if (!result->warning.empty()) fmt::print(stderr, "warning: {}\n", result->warning);
  return *result;
}

}  // namespace

MeasuredMachine measure_machine(const PlacementFlags& flags, const model::Hparams& h,
                                const engine::EngineOptions& options, Isa isa,
                                const placement::Inventory& inventory, const runtime::Gpu* gpu,
                                placement::Machine& machine) {
  const calibration::Wanted wanted{
      .weights = formats_in_use(inventory),
      .repacked =
          options.load_mode == model::LoadMode::kAuto || options.load_mode == model::LoadMode::kRepack,
      .attention = {options.k_type, options.v_type, h.head_dim, h.n_heads / h.n_kv_heads}};
  const std::string file = calibration::default_speed_file();
  MeasuredMachine measured;
  placement::Processor& host = machine.processors[placement::kHost];
  measured.host = outcome_of(
      calibration::calibrate_host(wanted, isa, options.n_threads, flags.calibrate, file, host), "the CPU");
  if (flags.host_gb_s) host.read_bytes_s = *flags.host_gb_s * 1e9;

  const bool poses = gpu != nullptr && gpu->device()->info().type == vulkan::DeviceType::kCpu;
  if (gpu == nullptr || (poses && flags.calibrate != calibration::When::kAlways)) return measured;
  placement::Processor& device = machine.processors[1];
  placement::Processor found = device;  // its default stays whole where measuring breaks off
  const auto outcome = calibration::calibrate_device(wanted, gpu->device(), gpu->ops(), options.n_threads,
                                                     gpu->integer_products(), flags.calibrate, file, found);
  measured.device = outcome_of(outcome, gpu->device()->info().id);
  if (!outcome) return measured;
  if (!flags.device_gb_s.empty()) found.read_bytes_s = device.read_bytes_s;
  if (!flags.device_tflops.empty()) found.multiply_add_s = device.multiply_add_s;
  if (!flags.pcie_gb_s.empty()) {
    found.link_bytes_s = device.link_bytes_s;
    found.stream_bytes_s = 0;  // follows the link
  }
  device = found;
  return measured;
}

}  // namespace packmule::cli
