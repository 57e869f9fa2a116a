// Builds the bytes of a GGUF file without any checks, so that tests can make each thing wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace packmule::testing_support {

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}
inline std::string raw_string(std::string_view text) {
  return raw(uint64_t{text.size()}) + std::string(text);
}
/// key, type id, bytes of the value
inline std::string raw_key(std::string_view key, uint32_t type, std::string_view value) {
  return raw_string(key) + raw(type) + std::string(value);
}

struct RawTensor {
  std::string name;
  std::vector<uint64_t> ne;
  uint32_t type = 0;
  uint64_t offset = 0;
  std::optional<uint32_t> n_dims = {};  // else ne.size()

  [[nodiscard]] std::string bytes() const {
    std::string out = raw_string(name) + raw(n_dims.value_or(static_cast<uint32_t>(ne.size())));
    for (const uint64_t n : ne) out += raw(n);
    return out + raw(type) + raw(offset);
  }
};

/// A sound file unless told otherwise: two F32 tensors of 8 and 16 weights, and a few keys.
struct RawFile {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> n_tensors, n_keys;
  std::vector<std::string> keys = {
      raw_key("general.architecture", 8, raw_string("mule")),
      raw_key("general.alignment", 4, raw(uint32_t{32})),
      raw_key("a.numbers", 9, raw(uint32_t{5}) + raw(uint64_t{2}) + raw(int32_t{-1}) + raw(int32_t{7})),
      raw_key("a.words", 9, raw(uint32_t{8}) + raw(uint64_t{2}) + raw_string("pack") + raw_string("mule")),
  };
  std::vector<RawTensor> tensors = {{"first", {8}, 0, 0}, {"second", {8, 2}, 0, 32}};
  size_t alignment = 32;
  size_t data_bytes = 96;

  [[nodiscard]] std::string bytes() const {
    std::string out =
        magic + raw(version) + raw(n_tensors.value_or(tensors.size())) + raw(n_keys.value_or(keys.size()));
    for (const std::string& key : keys) out += key;
    for (const RawTensor& tensor : tensors) out += tensor.bytes();
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
    return out;
  }
};

inline std::span<const std::byte> as_span(std::string_view bytes) {
  return std::as_bytes(std::span(bytes.data(), bytes.size()));
}

}  // namespace packmule::testing_support
