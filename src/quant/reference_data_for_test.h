// For tests: what lies in the folder `quants` of the test data (its README.md says how it was made).
#pragma once

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "quant/format.h"
#include "tests/support/test_data.h"

namespace packmule::quant {

inline std::filesystem::path reference_path(const std::string& file) {
  return testing_support::data_root() / "quants" / file;
}

/// Names of the types that have a NAME.blocks.
inline std::set<std::string> reference_names() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(reference_path(""))) {
    const std::filesystem::path file = entry.path().filename();
    // "Q4_0.dot.blocks" has the stem "Q4_0.dot".
    if (file.extension() == ".blocks" && !file.stem().has_extension()) names.insert(file.stem().string());
  }
  return names;
}

inline Json reference_manifest() {
  return testing_support::read_json(reference_path("manifest.json"));
}

inline std::string reference_bytes(const std::string& file) {
  return testing_support::read_file(reference_path(file));
}

inline std::vector<float> reference_floats(const std::string& file) {
  return testing_support::read_floats(reference_path(file));
}

/// All weights in `blocks`, which must hold whole blocks. The copy is aligned as a tensor would be.
inline std::vector<float> decode_all(const Format& format, const void* blocks, size_t size_bytes) {
  const size_t n_blocks = size_bytes / format.block_bytes;
  std::vector<uint32_t> aligned((size_bytes + 3) / 4);
  if (size_bytes != 0) std::memcpy(aligned.data(), blocks, size_bytes);
  std::vector<float> weights(n_blocks * format.block_elems);
  format.decode(aligned.data(), weights.data(), static_cast<int64_t>(weights.size()));
  return weights;
}

inline std::vector<float> decode_all(const Format& format, const std::string& blocks) {
  return decode_all(format, blocks.data(), blocks.size());
}

}  // namespace packmule::quant
