#include "engine/model_hash.h"

#include <algorithm>
#include <map>

#include "base/checksum.h"

namespace packmule::engine {

uint64_t model_hash(const gguf::File& file) {
  // All that is before the first tensor of each of the split files.
  std::map<int, const gguf::TensorInfo*> first;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const gguf::TensorInfo*& least = first[tensor.shard];
    if (least == nullptr || tensor.file_offset < least->file_offset) least = &tensor;
  }
  const uint64_t size[] = {file.size_bytes()};
  uint64_t hash = checksum_of(std::span<const uint64_t>(size));
  for (const auto& [shard, tensor] : first)
    hash = checksum({tensor->data - tensor->file_offset, static_cast<size_t>(tensor->file_offset)}, hash);
  constexpr size_t kSamples = 16, kSampleBytes = 4096;
  const auto tensors = file.tensors();
  for (size_t i = 0; i < std::min(kSamples, tensors.size()); ++i) {
    const gguf::TensorInfo& tensor = tensors[i * tensors.size() / std::min(kSamples, tensors.size())];
    const auto n = static_cast<size_t>(std::min<uint64_t>(kSampleBytes, tensor.size_bytes));
    hash = checksum({tensor.data + (tensor.size_bytes - n) / 2, n}, hash);
  }
  return hash;
}

}  // namespace packmule::engine
