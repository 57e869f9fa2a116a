// Where test data lies and how to read it.
//
// Tests read the folder the environment variable PACKMULE_TEST_DATA names (same layout as tests/data), or
// tests/data. Template files of other projects are not copied here: they are read from `templates/` of that
// folder, or from ../shared/templates beside the clone, and tests skip what they do not find.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace packmule::testing_support {

/// Root of the data folder in use.
std::filesystem::path data_root();

/// data_root() / relative if it exists, else nullopt.
std::optional<std::filesystem::path> find_data(const std::string& relative);

/// A chat template by file name: data_root()/templates, then ../shared/templates beside the sources.
std::optional<std::filesystem::path> find_template(const std::string& file_name);

/// Whole file; aborts the test run with a message when it cannot be read.
std::string read_file(const std::filesystem::path& path);
std::vector<float> read_floats(const std::filesystem::path& path);
std::vector<int16_t> read_int16s(const std::filesystem::path& path);
Json read_json(const std::filesystem::path& path);
/// One JSON value a line.
std::vector<Json> read_json_lines(const std::filesystem::path& path);

/// A folder inside the build tree for files that tests make (created on demand).
std::filesystem::path generated_dir();

}  // namespace packmule::testing_support
