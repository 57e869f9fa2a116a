// The weights that a model has on a device: noted by name and size while the model is put together, allocated
// as a whole, then uploaded from the mapped file.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/file.h"
#include "runtime/gpu.h"
#include "vulkan/memory.h"

namespace packmule::runtime {

class DeviceWeights {
 public:
  /// Notes a tensor, whose bytes are the file's, and returns its number. Once for each tensor.
  int add(const gguf::TensorInfo& tensor);
  /// Notes values that the model computed or decoded, once for each vector, whose address must not change
  /// until upload(). They are copied here.
  int add(const std::vector<float>& values, std::string what);

  /// What allocate() takes, to the byte; an error when a tensor is larger than the device allocates at once.
  [[nodiscard]] Result<int64_t> size_bytes(const Gpu& gpu) const;
  [[nodiscard]] Status allocate(const Gpu& gpu);
  /// Through a ring of staging buffers. What was read of the file is given back to the system as it goes.
  [[nodiscard]] Status upload(const Gpu& gpu, const gguf::File& file);

  [[nodiscard]] vulkan::Span span(int item) const { return arenas_.span(item); }
  [[nodiscard]] int64_t tensor_bytes() const { return tensor_bytes_; }

 private:
  struct Item {
    std::string name;
    std::span<const std::byte> of_file;
    std::vector<float> values;
    const std::vector<float>* source = nullptr;  // of the values
    [[nodiscard]] std::span<const std::byte> bytes() const {
      return of_file.empty() ? std::as_bytes(std::span(values)) : of_file;
    }
  };
  [[nodiscard]] vulkan::ArenaLayout layout() const;

  std::vector<Item> items_;
  int64_t tensor_bytes_ = 0;
  vulkan::Arenas arenas_;
};

}  // namespace packmule::runtime
