#include "cli/placement_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "base/cpu.h"
#include "base/system_memory.h"
#include "base/utf8.h"
#include "vulkan/arena_layout.h"
#include "vulkan/hardware.h"

namespace packmule::cli {
namespace {

constexpr const char* kPlacement = "Placement";
constexpr const char* kMachine = "Machine (what is not said is asked from the system, or a default)";
/// A machine of 256 TB: beyond it, sums of sizes could leave the range of their type.
constexpr double kMostBytes = 256e12;
constexpr double kMostSpeed = 1e6;  // GB/s or TFLOP/s

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// A positive finite number at the beginning of `text`, which it is taken from.
std::optional<double> take_number(std::string_view& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || !(value >= 0)) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

std::vector<std::string_view> cut_at_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

[[noreturn]] void wrong(const std::string& flag, const std::string& words) {
  throw CLI::ValidationError(flag, words);
}

int64_t size_or_throw(const std::string& flag, std::string_view text) {
  auto size = parse_size(text);
  if (!size) wrong(flag, size.error().message);
  return *size;
}

/// A flag with one speed, or one for each device.
void add_speeds(CLI::App& verb, const std::string& flag, std::vector<double>& to, const std::string& what) {
  verb.add_option_function<std::string>(
          flag,
          [flag, &to](const std::string& text) {
            to.clear();
            for (std::string_view part : cut_at_commas(text)) {
              const auto value = take_number(part);
              if (!value || !part.empty() || *value <= 0 || *value > kMostSpeed)
                wrong(flag, fmt::format("expected a number above 0, or one for each device, found '{}'",
                                        printable(text, 40)));
              to.push_back(*value);
            }
          },
          what)
      ->type_name("NUMBER[,NUMBER...]")
      ->group(kMachine);
}

void add_speed(CLI::App& verb, const std::string& flag, std::optional<double>& to, const std::string& what) {
  verb.add_option_function<double>(
          flag, [&to](double value) { to = value; }, what)
      ->check(CLI::Range(1e-3, kMostSpeed))
      ->type_name("GB/S")
      ->group(kMachine);
}

int64_t layers_or_throw(const std::string& text) {
  if (text == "all" || text == "-2") return std::numeric_limits<int32_t>::max();
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 0)
    wrong("--n-gpu-layers",
          fmt::format("expected a number of layers, 'auto' or 'all', found '{}'", printable(text, 40)));
  return std::min<int64_t>(n, std::numeric_limits<int32_t>::max());
}

/// The i-th of some speeds, where one stands for all. An error when there are neither one nor n.
Status take_speed(const std::vector<double>& speeds, size_t i, size_t n, std::string_view flag, double unit,
                  double& to) {
  if (speeds.empty()) return {};
  if (speeds.size() != 1 && speeds.size() != n)
    return fail(ErrorKind::kInvalidArgument, "{}: expected one number or {}, one for each device, found {}",
                flag, n, speeds.size());
  to = speeds[speeds.size() == 1 ? 0 : i] * unit;
  return {};
}

Status keep_named_devices(const std::string& names, placement::Machine& machine) {
  if (names.empty()) return {};
  if (names == "none") {
    machine.processors.resize(1);
    return {};
  }
  std::vector<placement::Processor> kept = {machine.processors[placement::kHost]};
  for (const std::string_view name : cut_at_commas(names)) {
    const placement::Where where = machine.find(name);
    if (where <= placement::kHost)
      return fail(ErrorKind::kInvalidArgument, "--device: there is no device '{}'; there is {}{}",
                  printable(name, 40), machine.names(),
                  machine.n_devices() == 0 ? "; 'packmule plan' can imagine one: --device-memory 8G" : "");
    if (std::ranges::any_of(kept, [&](const auto& p) { return p.name == machine.at(where).name; }))
      return fail(ErrorKind::kInvalidArgument, "--device: '{}' is named twice", printable(name, 40));
    kept.push_back(machine.at(where));
  }
  machine.processors = std::move(kept);
  return {};
}

}  // namespace

Result<int64_t> parse_size(std::string_view text) {
  const std::string_view whole = text;
  const auto wrong_size = [&] {
    return fail(ErrorKind::kInvalidArgument,
                "expected a size like 8G, 900M or 1.5GiB (powers of 1024), found '{}'", printable(whole, 40));
  };
  const auto number = take_number(text);
  if (!number || text.empty()) return wrong_size();
  constexpr std::string_view kUnits = "kmgt";
  const size_t unit = kUnits.find(lower(text.front()));
  text.remove_prefix(1);
  if (!text.empty() && lower(text.front()) == 'i') text.remove_prefix(1);
  if (!text.empty() && lower(text.front()) == 'b') text.remove_prefix(1);
  if (unit == std::string_view::npos || !text.empty()) return wrong_size();
  const double bytes = *number * std::pow(1024.0, static_cast<double>(unit + 1));
  if (bytes > kMostBytes) return wrong_size();
  return static_cast<int64_t>(bytes);
}

void add_rule_flags(CLI::App& verb, PlacementFlags& flags) {
  using Override = PlacementFlags::Override;
  verb.add_option_function<std::string>(
          "--n-gpu-layers,--gpu-layers",
          [&flags](const std::string& text) {
            flags.n_gpu_layers.reset();
            if (text != "auto" && text != "-1") flags.n_gpu_layers = layers_or_throw(text);
          },
          "Layers on the device, counted from the end, the output being the last (-ngl); auto: packmule "
          "chooses")
      ->type_name("N|auto|all")
      ->group(kPlacement);
  verb.add_option_function<std::string>(
          "--override-tensor",
          [&flags](const std::string& text) {
            flags.overrides.push_back({Override::kPattern, text});
          },
          "Tensors whose name the pattern is found in go to the device (-ot); the first that matches counts")
      ->type_name("PATTERN=DEVICE[,...]")
      ->trigger_on_parse()
      ->group(kPlacement);
  verb.add_flag_callback(
          "--cpu-moe", [&flags] { flags.overrides.push_back({Override::kCpuMoe}); },
          "All experts on the CPU (-cmoe)")
      ->trigger_on_parse()
      ->group(kPlacement);
  verb.add_option_function<int64_t>(
          "--n-cpu-moe",
          [&flags](int64_t n) {
            flags.overrides.push_back({Override::kNCpuMoe, "", n});
          },
          "Experts of the first N layers on the CPU (-ncmoe)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->type_name("N")
      ->trigger_on_parse()
      ->group(kPlacement);
  verb.add_flag("--no-kv-offload", flags.kv_on_host, "KV cache and recurrent states on the CPU (-nkvo)")
      ->group(kPlacement);
  verb.add_flag("--op-offload,!--no-op-offload", flags.streaming.allowed,
                "Experts of the CPU are copied to the device for long prompts where that is faster; or never "
                "(-nopo)")
      ->group(kPlacement);
  verb.add_option("--op-offload-min-batch", flags.streaming.from_tokens,
                  "For prompts of at least N tokens a ubatch, whatever is faster (default: calculated)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31))
      ->type_name("N")
      ->group(kPlacement);
  verb.add_option("--device", flags.devices, "Devices to use, or none (-dev)")
      ->type_name("NAME[,NAME...]")
      ->group(kPlacement);
  verb.add_option_function<std::string>(
          "--reserve",
          [&flags](const std::string& text) {
            std::string_view rest = text;
            const auto number = take_number(rest);
            if (number && rest == "%") {
              if (*number >= 100) wrong("--reserve", "expected less than 100%");
              flags.reserve_percent = *number;
              flags.reserve_bytes.reset();
            } else {
              flags.reserve_bytes = size_or_throw("--reserve", text);
            }
          },
          "Memory left alone, of each kind: a size like 1G, or a percentage of what is free (default 10%)")
      ->type_name("SIZE|PERCENT%")
      ->group(kPlacement);
}

void add_device_memory_flag(CLI::App& verb, PlacementFlags& flags) {
  verb.add_option_function<std::string>(
          "--device-memory",
          [&flags](const std::string& text) {
            flags.device_memory_bytes = {size_or_throw("--device-memory", text)};
          },
          "Most of the device's memory to use, the reserve included, like 8G (default: what is free)")
      ->type_name("SIZE")
      ->group(kPlacement);
}

void add_calibrate_flag(CLI::App& verb, PlacementFlags& flags) {
  verb.add_option(
          "--calibrate", flags.calibrate,
          "Measure CPU and graphics card for the plan: what is not known yet, everything anew, or nothing")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, calibration::When>{{"auto", calibration::When::kAuto},
                                                   {"always", calibration::When::kAlways},
                                                   {"never", calibration::When::kNever}}))
      ->type_name("auto|always|never")
      ->default_str("auto")
      ->group(kMachine);
}

void add_machine_flags(CLI::App& verb, PlacementFlags& flags) {
  verb.add_option_function<std::string>(
          "--device-memory",
          [&flags](const std::string& text) {
            flags.device_memory_bytes.clear();
            for (const std::string_view part : cut_at_commas(text))
              flags.device_memory_bytes.push_back(size_or_throw("--device-memory", part));
            if (flags.device_memory_bytes.size() >= placement::kMaxProcessors)
              wrong("--device-memory",
                    fmt::format("expected at most {} devices", placement::kMaxProcessors - 1));
          },
          "Imagines a device GPU0 with so much memory, like 8G; with commas several. With a real --device: "
          "the most "
          "of it to use")
      ->type_name("SIZE[,SIZE...]")
      ->group(kMachine);
  add_speeds(verb, "--device-bandwidth", flags.device_gb_s,
             "GB/s at which a device reads weights (default 300)");
  add_speeds(verb, "--device-tflops", flags.device_tflops,
             "10^12 operations/s of a device in a prompt (default 16)");
  add_speeds(verb, "--pcie", flags.pcie_gb_s, "GB/s between host and device, one way (default 12)");
  verb.add_option_function<std::string>(
          "--host-memory",
          [&flags](const std::string& text) {
            flags.host_memory_bytes = size_or_throw("--host-memory", text);
          },
          "Free memory of the host (default: what the system says)")
      ->type_name("SIZE")
      ->group(kMachine);
  add_speed(verb, "--host-bandwidth", flags.host_gb_s,
            "GB/s at which the CPU reads weights (default: measured)");
  add_calibrate_flag(verb, flags);
  add_speed(verb, "--disk", flags.disk_gb_s, "GB/s of the disk (default 2)");
}

vulkan::MemoryPolicy policy_of(const PlacementFlags& flags, const placement::Processor& device) {
  vulkan::MemoryPolicy policy{.reserve_bytes = device.reserve_bytes};
  if (!flags.device_memory_bytes.empty()) policy.limit_bytes = flags.device_memory_bytes.front();
  return policy;
}

Result<std::optional<vulkan::DeviceInfo>> device_of(const PlacementFlags& flags) {
  if (flags.devices == "none") return std::nullopt;
  // Only a card is taken unasked, and where there can be none, no driver needs to be loaded to know that.
  if (flags.devices.empty() && !vulkan::may_have_graphics_card()) return std::nullopt;
  const auto devices = vulkan::list_devices();
  if (flags.devices.empty()) {
    if (!devices) return std::nullopt;
    for (const vulkan::DeviceInfo& device : *devices)
      if (device.usable() && device.type == vulkan::DeviceType::kDiscrete) return device;
    return std::nullopt;
  }
  if (!devices)
    return fail(ErrorKind::kInvalidArgument, "--device: there is no device '{}': {}",
                printable(flags.devices, 40), devices.error().message);
  const auto named = vulkan::select_devices(*devices, flags.devices);
  if (!named) return fail(ErrorKind::kInvalidArgument, "--device: {}", named.error().message);
  if (named->size() > 1)
    return fail(ErrorKind::kInvalidArgument,
                "--device: packmule computes on one device at a time, found {}: {}", named->size(),
                printable(flags.devices, 80));
  return *named->front();
}

/// As the planner sees a real device. Its speeds are not measured.
placement::Processor processor_of(const vulkan::DeviceInfo& info, const PlacementFlags& flags) {
  placement::Processor device = placement::default_device(0, info.memory().available_bytes());
  device.other_name = info.id;
  device.name = fmt::format("GPU{}", info.id.substr(info.id.find_first_of("0123456789")));
  device.words = info.name;
  device.total_bytes = info.memory().size_bytes;
  if (!flags.device_memory_bytes.empty())
    device.free_bytes = std::min(device.free_bytes, flags.device_memory_bytes.front());
  device.max_tensor_bytes =
      std::min({info.max_allocation_bytes, info.max_buffer_bytes, vulkan::kLargestArena});
  return device;
}

Result<placement::Machine> machine_of(const PlacementFlags& flags, int n_threads,
                                      const std::optional<vulkan::DeviceInfo>& real) {
  placement::Machine machine;
  machine.disk_bytes_s = flags.disk_gb_s.value_or(placement::kDefaultDiskBytesS * 1e-9) * 1e9;
  PACKMULE_TRY(const Isa isa, choose_isa());
  placement::Processor& host = machine.processors.emplace_back(
      placement::default_host(n_threads, isa == Isa::kAvx512 || isa == Isa::kAmx));
  host.words = "this machine";
  // Where neither the system nor a cgroup says how much there is, no sum may overflow.
  host.free_bytes =
      std::min(flags.host_memory_bytes.value_or(available_memory_bytes()), static_cast<int64_t>(kMostBytes));
  if (flags.host_gb_s) host.read_bytes_s = *flags.host_gb_s * 1e9;
  const size_t n_devices = real ? 1 : flags.device_memory_bytes.size();
  if (n_devices == 0 &&
      !(flags.device_gb_s.empty() && flags.device_tflops.empty() && flags.pcie_gb_s.empty()))
    return fail(ErrorKind::kInvalidArgument,
                "speeds of a device are given, but there is none; --device-memory 8G imagines one");
  for (size_t i = 0; i < n_devices; ++i) {
    placement::Processor device =
        real ? processor_of(*real, flags)
             : placement::default_device(static_cast<int>(i), flags.device_memory_bytes[i]);
    double operations = 2 * device.multiply_add_s;
    PACKMULE_TRY_STATUS(
        take_speed(flags.device_gb_s, i, n_devices, "--device-bandwidth", 1e9, device.read_bytes_s));
    PACKMULE_TRY_STATUS(take_speed(flags.device_tflops, i, n_devices, "--device-tflops", 1e12, operations));
    PACKMULE_TRY_STATUS(take_speed(flags.pcie_gb_s, i, n_devices, "--pcie", 1e9, device.link_bytes_s));
    device.multiply_add_s = operations / 2;
    machine.processors.push_back(std::move(device));
  }
  if (!real) PACKMULE_TRY_STATUS(keep_named_devices(flags.devices, machine));
  for (placement::Processor& p : machine.processors)
    p.reserve_bytes = flags.reserve_bytes.value_or(
        static_cast<int64_t>(static_cast<double>(p.free_bytes) * flags.reserve_percent / 100));
  return machine;
}

Result<placement::Rules> rules_of(const PlacementFlags& flags, const placement::Machine& machine) {
  placement::Rules rules;
  rules.n_gpu_layers = flags.n_gpu_layers;
  rules.kv_on_host = flags.kv_on_host;
  for (const PlacementFlags::Override& said : flags.overrides) {
    switch (said.kind) {
      case PlacementFlags::Override::kPattern: {
        auto parsed = placement::parse_override(said.text, machine);
        if (!parsed) return fail(parsed.error().kind, "--override-tensor: {}", parsed.error().message);
        for (placement::Rule& rule : *parsed) rules.overrides.push_back(std::move(rule));
        break;
      }
      case PlacementFlags::Override::kCpuMoe:
        rules.overrides.push_back(placement::cpu_moe_rule());
        break;
      case PlacementFlags::Override::kNCpuMoe:
        if (said.n_layers > 0) rules.overrides.push_back(placement::n_cpu_moe_rule(said.n_layers));
        break;
    }
  }
  return rules;
}

}  // namespace packmule::cli
