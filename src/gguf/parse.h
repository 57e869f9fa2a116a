// One GGUF file in memory, parsed and checked; File puts one or several together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"

namespace packmule::gguf {

// Bounds on what a file may ask of us; far above any real file (a model of this family has 900 tensors, 45
// keys and 450,000 array elements).
inline constexpr uint64_t kMaxKeys = uint64_t{1} << 16;
inline constexpr uint64_t kMaxTensors = uint64_t{1} << 20;
inline constexpr uint64_t kMaxArrayElems = uint64_t{1} << 26;  // of all arrays of a file together
inline constexpr uint64_t kMaxKeyBytes = 65535;                // as the specification says
inline constexpr uint64_t kMaxTensorNameBytes = 64;            // as the specification says

inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr uint64_t kMinAlignment = 8;
inline constexpr uint64_t kMaxAlignment = uint64_t{1} << 30;

/// Finds entries by name: sorted, because a hostile file could make a hash table slow.
class NameIndex {
 public:
  NameIndex() = default;
  /// Entry i is called names[i]. The names must outlive the index.
  explicit NameIndex(std::span<const std::string_view> names);

  [[nodiscard]] std::optional<size_t> find(std::string_view name) const;
  /// Two entries of one name, in their order in the file; null when all names differ.
  [[nodiscard]] std::optional<std::pair<size_t, size_t>> find_duplicate() const;

 private:
  std::vector<std::pair<std::string_view, size_t>> sorted_;
};

/// Key-value pairs with their index; the views point into the bytes of the file.
struct Metadata {
  std::vector<KeyValue> entries;
  NameIndex index;
  [[nodiscard]] const Value* find(std::string_view key) const;
};

struct Shard {
  uint32_t version = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // TensorInfo::shard left at 0
};

/// `path` is named in errors. Checks everything that can be told from one file, duplicate names included.
[[nodiscard]] Result<Shard> parse_shard(std::span<const std::byte> bytes, std::string_view path);

// The value of a key as one C++ type; errors name path, key, expected and found. Null means the key is
// absent.
[[nodiscard]] Result<uint64_t> value_u64(const Value* value, std::string_view path, std::string_view key);
[[nodiscard]] Result<double> value_f64(const Value* value, std::string_view path, std::string_view key);
[[nodiscard]] Result<bool> value_bool(const Value* value, std::string_view path, std::string_view key);
[[nodiscard]] Result<std::string_view> value_string(const Value* value, std::string_view path,
                                                    std::string_view key);
[[nodiscard]] Result<std::vector<std::string_view>> value_strings(const Value* value, std::string_view path,
                                                                  std::string_view key);
[[nodiscard]] Result<std::vector<int64_t>> value_integers(const Value* value, std::string_view path,
                                                          std::string_view key);

}  // namespace packmule::gguf
