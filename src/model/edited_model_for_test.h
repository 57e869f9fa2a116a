// A model file taken apart, changed and put together again, in memory: for tests of other layouts and of
// damaged models.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gguf/file.h"
#include "gguf/writer.h"
#include "quant/format.h"

namespace packmule::model {

class EditedModel {
 public:
  struct Tensor {
    std::vector<int64_t> ne;
    quant::Type type = quant::Type::kF32;
    std::vector<std::byte> bytes;

    [[nodiscard]] int64_t row_bytes() const { return quant::row_bytes(quant::format_of(type), ne[0]); }
    /// Values of an F32 tensor.
    [[nodiscard]] std::vector<float> values() const {
      std::vector<float> out(bytes.size() / sizeof(float));
      std::memcpy(out.data(), bytes.data(), bytes.size());
      return out;
    }
    void set_values(const std::vector<float>& values) {
      type = quant::Type::kF32;
      const auto raw = std::as_bytes(std::span(values));
      bytes.assign(raw.begin(), raw.end());
    }
  };

  explicit EditedModel(const gguf::File& file) {
    for (const gguf::KeyValue& entry : file.metadata())
      writer_.set(std::string(entry.key), copy_value(entry.value));
    for (const gguf::TensorInfo& info : file.tensors())
      tensors_[std::string(info.name)] = {{info.ne.begin(), info.ne.begin() + info.n_dims},
                                          info.format->type,
                                          {info.data, info.data + info.size_bytes}};
  }

  void set(const std::string& key, gguf::NewValue value) { writer_.set(key, std::move(value)); }
  void remove_key(const std::string& key) { writer_.remove(key); }
  Tensor& tensor(const std::string& name) { return tensors_.at(name); }
  [[nodiscard]] bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  void add(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
  void remove(const std::string& name) { ASSERT_EQ(tensors_.erase(name), 1u) << name; }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }

  /// The file's bytes, to be read with gguf::File::parse.
  [[nodiscard]] std::vector<std::byte> bytes() const {
    gguf::Writer writer = writer_;
    for (const auto& [name, tensor] : tensors_) writer.add_tensor(name, tensor.ne, tensor.type, tensor.bytes);
    return writer.bytes().value();
  }

 private:
  gguf::Writer writer_;  // the keys
  std::map<std::string, Tensor> tensors_;
};

}  // namespace packmule::model
