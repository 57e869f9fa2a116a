#include "calibration/speed_file.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "base/json.h"

namespace packmule::calibration {
namespace {

namespace fs = std::filesystem;

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
  return machine.is_object() && machine.value("cpu", Json()) == key.cpu &&
         machine.value("isa", Json()) == key.isa && machine.value("threads", Json()) == key.threads;
}

}  // namespace

std::string default_speed_file() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return fs::path(cache) / "packmule" / "speeds.json";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') return fs::path(home) / ".cache" / "packmule" / "speeds.json";
  return {};
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
  machines.push_back(
      {{"cpu", key.cpu}, {"isa", key.isa}, {"threads", key.threads}, {"speeds", Json::object()}});
  for (const auto& [name, value] : speeds) machines[0]["speeds"][name] = value;
  for (const Json& machine : machines_of(path))
    if (machine.is_object() && !is_of(machine, key) && machines.size() < kMostMachines)
      machines.push_back(machine);
  const Json json = {{"revision", kRevision}, {"machines", std::move(machines)}};

  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  const std::string partial = fmt::format("{}.{}", path, getpid());
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  out << json.dump(1, ' ', false, Json::error_handler_t::replace) << '\n';
  out.close();
  if (!out) error = std::make_error_code(std::errc::io_error);
  if (!error) fs::rename(partial, path, error);
  if (error) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    return fail(ErrorKind::kIo, "cannot keep the measured speeds in {}: {}", path, error.message());
  }
  return {};
}

}  // namespace packmule::calibration
