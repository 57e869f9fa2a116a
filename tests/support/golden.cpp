#include "tests/support/golden.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <sstream>

#include "tests/support/test_data.h"

namespace packmule::testing_support {
namespace fs = std::filesystem;
namespace {

fs::path folder() {
  return data_root() / "golden";
}

/// What make_tiny.py is called with, from "make_tiny.py tinyA 1 tinyA.gguf"; empty if made otherwise.
std::vector<std::string> recipe(const GoldenCase& golden) {
  std::istringstream words(golden.about.value("made_by", ""));
  std::vector<std::string> all{std::istream_iterator<std::string>(words), {}};
  if (all.size() != 4 || all[0] != "make_tiny.py") return {};
  return {all[1], all[2]};
}

/// Runs the generator; returns the SHA-256 that it prints.
Result<std::string> generate(const std::vector<std::string>& what, const std::string& option,
                             const fs::path& out) {
  const std::string command =
      fmt::format("/usr/bin/python3 -B '{}' {} {} '{}' {} 2>&1", (folder() / "tools/make_tiny.py").string(),
                  what[0], what[1], out.string(), option);
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return fail(ErrorKind::kIo, "cannot run {}", command);
  std::string output;
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) output += buffer;
  const int status = pclose(pipe);
  std::istringstream words(output);
  std::string path, bytes, sha256;
  words >> path >> bytes >> sha256;
  if (status != 0 || sha256.size() != 64)
    return fail(ErrorKind::kIo, "{} failed (needs python3-numpy): {}", command, output);
  return sha256;
}

/// Makes the file unless it is there; tests of several processes take turns.
Result<fs::path> made(const std::vector<std::string>& what, const std::string& option,
                      const std::string& expected_sha256) {
  // The content is in the name: a file that is there was checked when it was made.
  const fs::path out = generated_dir() /
                       fmt::format("{}-{}{}{}.gguf", what[0], what[1], option, expected_sha256.substr(0, 12));
  const int lock = open((out.string() + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) return fail(ErrorKind::kIo, "cannot lock {}.lock", out.string());
  Result<fs::path> result = out;
  if (!fs::exists(out)) {
    const fs::path draft = out.string() + ".draft";
    const Result<std::string> sha256 = generate(what, option, draft);
    if (!sha256.has_value())
      result = tl::unexpected<Error>(sha256.error());
    else if (!expected_sha256.empty() && *sha256 != expected_sha256)
      result = fail(ErrorKind::kInvalidFile, "{}: expected SHA-256 {}, found {}", draft.string(),
                    expected_sha256, *sha256);
    else
      fs::rename(draft, out);
  }
  close(lock);
  return result;
}

}  // namespace

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  if (!fs::exists(folder())) return names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder()))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

int64_t golden_model_bytes(const std::string& name) {
  return read_json(folder() / (name + ".json")).at("gguf_bytes").get<int64_t>();
}

bool GoldenCase::quantized() const {
  return about.at("made_by").get<std::string>().find("quantize") != std::string::npos;
}

GoldenCase read_golden(const std::string& name) {
  GoldenCase golden;
  golden.name = name;
  golden.about = read_json(folder() / (name + ".json"));
  golden.model_bytes = golden.about.at("gguf_bytes");
  golden.tokens = golden.about.at("tokens").get<std::vector<int32_t>>();
  golden.n_prompt = golden.about.at("n_prompt");
  golden.n_vocab = golden.about.at("vocab");
  golden.n_layers = golden.about.at("config").at("n_layer");
  golden.n_used = golden.about.at("config").at("top_k");
  golden.logits = read_floats(folder() / (name + ".logits.f32"));
  golden.hidden = read_floats(folder() / (name + ".hidden.f32"));
  golden.experts = read_int16s(folder() / (name + ".experts.i16"));
  golden.margin = read_floats(folder() / (name + ".margin.f32"));
  return golden;
}

Result<fs::path> golden_model(const GoldenCase& golden) {
  const fs::path stored = folder() / (golden.name + ".gguf");
  if (fs::exists(stored)) return stored;
  const std::vector<std::string> what = recipe(golden);
  if (what.empty())
    return fail(ErrorKind::kIo, "{}: not in the folder, and made by '{}', which a test cannot run",
                stored.string(), golden.about.value("made_by", ""));
  return made(what, "", golden.about.at("gguf_sha256"));
}

Result<fs::path> golden_variant(const GoldenCase& golden, const std::string& option) {
  const std::vector<std::string> what = recipe(golden);
  if (what.empty()) return fail(ErrorKind::kUnsupported, "{} is not made by make_tiny.py", golden.name);
  return made(what, option, "");
}

double max_relative_l2(const std::vector<float>& a, const std::vector<float>& b, int64_t n_cols) {
  if (a.size() != b.size() || b.empty()) return INFINITY;
  double worst = 0;
  for (size_t row = 0; row < b.size(); row += static_cast<size_t>(n_cols)) {
    double difference = 0, norm = 0;
    for (size_t i = row; i < row + static_cast<size_t>(n_cols); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
      norm += std::pow(static_cast<double>(b[i]), 2);
    }
    const double relative = std::sqrt(difference / norm);
    if (std::isnan(relative)) return INFINITY;
    worst = std::max(worst, relative);
  }
  return worst;
}

}  // namespace packmule::testing_support
