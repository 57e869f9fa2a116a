// A model file of 48 layers and the true widths that takes no room: its directory is written, its weights are
// a hole.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "gguf/raw_file_for_test.h"
#include "placement/model_for_test.h"

namespace packmule::cli {

inline void write_sparse_model(const std::filesystem::path& path, placement::DirectoryForTest& directory) {
  using testing_support::raw;
  using testing_support::raw_key;
  testing_support::RawFile file;
  const auto number = [](const char* key, uint32_t value) {
    return raw_key(std::string("qwen3next.") + key, 4, raw(value));
  };
  const auto real = [](const char* key, float value) {
    return raw_key(std::string("qwen3next.") + key, 6, raw(value));
  };
  file.keys = {raw_key("general.architecture", 8, testing_support::raw_string("qwen3next")),
               number("block_count", static_cast<uint32_t>(directory.n_layers)),
               number("context_length", 262144),
               number("embedding_length", 2048),
               number("feed_forward_length", 5120),
               number("attention.head_count", 16),
               number("attention.head_count_kv", 2),
               number("attention.key_length", 256),
               number("attention.value_length", 256),
               number("rope.dimension_count", 64),
               number("expert_count", 512),
               number("expert_used_count", 10),
               number("expert_feed_forward_length", 512),
               number("expert_shared_feed_forward_length", 512),
               number("full_attention_interval", 4),
               number("ssm.conv_kernel", 4),
               number("ssm.state_size", 128),
               number("ssm.group_count", 16),
               number("ssm.time_step_rank", 32),
               number("ssm.inner_size", 4096),
               real("rope.freq_base", 1e7f),
               real("attention.layer_norm_rms_epsilon", 1e-6f)};
  file.tensors.clear();
  file.data_bytes = 0;
  uint64_t offset = 0;
  for (const gguf::TensorInfo& info : directory.tensors()) {
    testing_support::RawTensor tensor{
        std::string(info.name), {}, static_cast<uint32_t>(info.format->type), offset};
    for (int d = 0; d < info.n_dims; ++d)
      tensor.ne.push_back(static_cast<uint64_t>(info.ne[static_cast<size_t>(d)]));
    offset += (info.size_bytes + 31) / 32 * 32;
    file.tensors.push_back(std::move(tensor));
  }
  const std::string bytes = file.bytes();
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  std::filesystem::resize_file(path, bytes.size() + offset);
}

}  // namespace packmule::cli
