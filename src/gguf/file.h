// Reading GGUF files: metadata, tensor directory, and the mapped bytes of the tensors.
//
// GGUF versions 2 and 3, little endian, one file or split files (NAME-00001-of-00003.gguf; open the first). A
// GGUF is untrusted input: every count, size, offset, string, type and shape is checked before use, and a
// file that fails gives one line with what, where (byte offset or key or tensor), expected and found.
//
// Layout (all little endian): "GGUF", u32 version, u64 n_tensors, u64 n_kv; n_kv times {string key, u32 type,
// value}; n_tensors times {string name, u32 n_dims, u64 ne[n_dims], u32 type, u64 offset}; padding to the
// alignment; data. string = u64 length, bytes. array = u32 element type, u64 count, elements. Specification:
// ggml's docs/gguf.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "quant/format.h"

namespace packmule::gguf {

enum class ValueType : uint32_t {
  kU8 = 0,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
[[nodiscard]] std::string_view value_type_name(ValueType type);

/// An array of the file, not of arrays. Numbers are kept as doubles or 64-bit integers by kind, strings as
/// views into the mapping.
struct Array {
  ValueType element_type = ValueType::kU8;
  std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>, std::vector<bool>,
               std::vector<std::string_view>>
      values;
  [[nodiscard]] size_t size() const;
};

struct Value {
  ValueType type = ValueType::kU8;
  std::variant<uint64_t, int64_t, double, bool, std::string_view, Array> value;  // by kind of `type`
};

struct KeyValue {
  std::string_view key;
  Value value;
};

struct TensorInfo {
  std::string_view name;
  std::array<int64_t, 4> ne{1, 1, 1, 1};  // fastest dimension first, as GGUF has it
  int n_dims = 1;
  const quant::Format* format = nullptr;
  int shard = 0;             // which of the split files
  uint64_t file_offset = 0;  // of the first byte, in that file
  uint64_t size_bytes = 0;
  const std::byte* data = nullptr;  // mapped, read-only
  [[nodiscard]] int64_t n_elems() const { return ne[0] * ne[1] * ne[2] * ne[3]; }
  [[nodiscard]] int64_t row_bytes() const { return quant::row_bytes(*format, ne[0]); }
};

class File {
 public:
  /// Opens, maps and validates a file and, if it is the first of a split, the others beside it.
  static Result<File> open(const std::string& path);
  /// The same checks on bytes in memory (single file); `name` stands for the path in errors. For fuzzing and
  /// tests. The bytes must outlive the File.
  static Result<File> parse(std::span<const std::byte> bytes, std::string_view name);

  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();

  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] uint32_t version() const;
  [[nodiscard]] uint64_t size_bytes() const;  // of all shards
  [[nodiscard]] int n_shards() const;
  [[nodiscard]] const std::string& shard_path(int shard) const;  // TensorInfo::shard

  /// In file order.
  [[nodiscard]] std::span<const KeyValue> metadata() const;
  [[nodiscard]] std::span<const TensorInfo> tensors() const;

  [[nodiscard]] const Value* find(std::string_view key) const;               // null when absent
  [[nodiscard]] const TensorInfo* find_tensor(std::string_view name) const;  // null when absent

  /// Advice on bytes of a tensor (base/file_map.h); nothing happens with bytes that are the caller's.
  void will_read(std::span<const std::byte> part) const;
  void was_read(std::span<const std::byte> part) const;

  // Typed access; the error names file, key, expected and found. Integers of any width and sign are accepted
  // where the value fits.
  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
  [[nodiscard]] Result<uint64_t> get_u64(std::string_view key) const;
  [[nodiscard]] Result<double> get_f64(std::string_view key) const;  // integers accepted
  [[nodiscard]] Result<bool> get_bool(std::string_view key) const;
  [[nodiscard]] Result<std::string_view> get_string(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  [[nodiscard]] Result<std::vector<int64_t>> get_integers(
      std::string_view key) const;  // array of integers or bools

 private:
  struct Impl;
  explicit File(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::gguf
