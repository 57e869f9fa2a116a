// Writing GGUF files (version 3): metadata of every type, tensors from memory or streamed, one file or a
// split one. A file appears under its name when it is complete, never before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"
#include "quant/format.h"

namespace packmule::gguf {

/// A metadata value to be written; its C++ type is its type in the file.
using NewValue =
    std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t,
                 int64_t, double, std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                 std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>,
                 std::vector<bool>, std::vector<std::string>, std::vector<uint64_t>, std::vector<int64_t>,
                 std::vector<double>>;

/// The same value, of the same type, as one read from a file.
[[nodiscard]] NewValue copy_value(const Value& value);

/// Puts the bytes [offset, offset + out.size()) of a tensor into `out`. Called from the start to the end of
/// the tensor, by pieces that are whole blocks of its format.
using FillTensor = std::function<Status(uint64_t offset, std::span<std::byte> out)>;

/// Where to cut a model into several files; 0: no limit.
struct SplitLimits {
  size_t max_tensors = 0;  // in one file
  uint64_t max_bytes = 0;  // of tensor data in one file; a larger tensor gets a file of its own
};

class Writer {
 public:
  /// Sets a key; keys are written in the order in which they were first set. `general.alignment` (u32) sets
  /// the alignment of the data, 32 without it.
  void set(std::string key, NewValue value);
  void remove(std::string_view key);

  /// `ne`: fastest dimension first. The bytes must live until the file is written.
  void add_tensor(std::string name, std::vector<int64_t> ne, quant::Type type,
                  std::span<const std::byte> bytes);
  void add_tensor(std::string name, std::vector<int64_t> ne, quant::Type type, FillTensor fill);

  /// Writes one file. What was set and added is checked first, by the rules the reader has; an error leaves
  /// no file behind and an older file of that name as it was.
  [[nodiscard]] Status write(const std::string& path) const;

  /// Writes PREFIX-00001-of-0000N.gguf and so on, and returns their paths. All metadata is in the first.
  [[nodiscard]] Result<std::vector<std::string>> write_split(const std::string& prefix,
                                                             const SplitLimits& limits) const;

  /// The bytes of the one file.
  [[nodiscard]] Result<std::vector<std::byte>> bytes() const;

 private:
  struct Key {
    std::string name;
    NewValue value;
  };
  struct Tensor {
    std::string name;
    std::vector<int64_t> ne;
    quant::Type type;
    std::variant<std::span<const std::byte>, FillTensor> source;
    [[nodiscard]] uint64_t size_bytes() const;  // the tensor has passed check()
  };
  class Sink;
  class MemorySink;
  class FileSink;

  [[nodiscard]] Status check() const;
  [[nodiscard]] Result<uint64_t> alignment() const;
  [[nodiscard]] Status write_shard(Sink& sink, std::span<const Key> keys,
                                   std::span<const Tensor> tensors) const;

  std::vector<Key> keys_;
  std::vector<Tensor> tensors_;
};

}  // namespace packmule::gguf
