#include "tests/support/test_data.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

namespace packmule::testing_support {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void die(const std::string& message) {
  std::cerr << "test data: " << message << "\n";
  std::exit(1);
}

template <class T>
std::vector<T> read_array(const fs::path& path) {
  const std::string bytes = read_file(path);
  if (bytes.size() % sizeof(T) != 0) die(path.string() + ": size is not a multiple of the element size");
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

fs::path data_root() {
  const char* named = std::getenv("PACKMULE_TEST_DATA");
  if (named != nullptr && *named != '\0') return named;
  return fs::path(PACKMULE_SOURCE_DIR) / "tests/data";
}

std::optional<fs::path> find_data(const std::string& relative) {
  fs::path path = data_root() / relative;
  if (fs::exists(path)) return path;
  return std::nullopt;
}

std::optional<fs::path> find_template(const std::string& file_name) {
  for (const fs::path& folder :
       {data_root() / "templates", fs::path(PACKMULE_SOURCE_DIR).parent_path() / "shared/templates"})
    if (fs::exists(folder / file_name)) return folder / file_name;
  return std::nullopt;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) die("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<float> read_floats(const fs::path& path) {
  return read_array<float>(path);
}
std::vector<int16_t> read_int16s(const fs::path& path) {
  return read_array<int16_t>(path);
}

Json read_json(const fs::path& path) {
  return Json::parse(read_file(path));
}

std::vector<Json> read_json_lines(const fs::path& path) {
  std::vector<Json> values;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) values.push_back(Json::parse(line));
  return values;
}

fs::path generated_dir() {
  fs::path path = fs::path(PACKMULE_BINARY_DIR) / "generated";
  fs::create_directories(path);
  return path;
}

}  // namespace packmule::testing_support
