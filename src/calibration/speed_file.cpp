#include "calibration/speed_file.h"

#include <fstream>
#include <span>
#include <sstream>

#include "base/json.h"
#include "base/user_cache.h"

namespace packmule::calibration {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;
constexpr size_t kMostMachines = 64;
constexpr double kMostSpeed = 1e18;

/// The machines of the file; empty when it is not one of ours.
Json machines_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) return Json::array();
  const auto json = parse_json(text.str(), path, {.max_bytes = kMostBytes, .max_depth = 8});
  if (!json || !json->is_object() || json->value("revision", Json()) != kRevision) return Json::array();
  const auto machines = json->find("machines");
  return machines != json->end() && machines->is_array() ? *machines : Json::array();
}

bool is_of(const Json& machine, const MachineKey& key) {
  return machine.is_object() && machine.value("processor", Json()) == key.processor &&
         machine.value("kernels", Json()) == key.kernels && machine.value("threads", Json()) == key.threads;
}

}  // namespace

std::string default_speed_file() {
  return user_cache_path("speeds.json");
}

Speeds load_speeds(const std::string& path, const MachineKey& key) {
  Speeds speeds;
  for (const Json& machine : machines_of(path)) {
    if (!is_of(machine, key)) continue;
    const auto found = machine.find("speeds");
    if (found == machine.end() || !found->is_object()) continue;
    for (const auto& [name, value] : found->items())
      if (value.is_number() && value.get<double>() > 0 && value.get<double>() < kMostSpeed)
        speeds[name] = value.get<double>();
  }
  return speeds;
}

Status save_speeds(const std::string& path, const MachineKey& key, const Speeds& speeds) {
  Json machines = Json::array();
  machines.push_back({{"processor", key.processor},
                      {"kernels", key.kernels},
                      {"threads", key.threads},
                      {"speeds", Json::object()}});
  for (const auto& [name, value] : speeds) machines[0]["speeds"][name] = value;
  for (const Json& machine : machines_of(path))
    if (machine.is_object() && !is_of(machine, key) && machines.size() < kMostMachines)
      machines.push_back(machine);
  const Json json = {{"revision", kRevision}, {"machines", std::move(machines)}};

  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  return replace_file(path, std::as_bytes(std::span(text)), "the measured speeds");
}

}  // namespace packmule::calibration
