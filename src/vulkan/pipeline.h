// Compute pipelines: a shader with its specialization constants, made when first asked for and kept.
//
// Shaders take no descriptors: a push constant block holds the addresses of what they read and write. So
// there is one pipeline layout, and a pipeline is all a dispatch needs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vulkan/device.h"
#include "vulkan/shaders.h"

namespace packmule::vulkan {

/// Bytes of push constants that every device has.
inline constexpr size_t kPushBytes = 128;

struct Pipeline {
  VkPipeline handle = VK_NULL_HANDLE;
  VkPipelineLayout layout = VK_NULL_HANDLE;
};

class Pipelines {
 public:
  /// `cache_file`: what drivers compiled is read from there and written back by save(); "" for none. A file
  /// that is damaged, or of another device or driver, is ignored.
  static Result<std::unique_ptr<Pipelines>> create(std::shared_ptr<Device> device,
                                                   std::string cache_file = {});
  ~Pipelines();
  Pipelines(const Pipelines&) = delete;
  Pipelines& operator=(const Pipelines&) = delete;

  /// `constants[i]` is the shader's specialization constant i.
  [[nodiscard]] Result<Pipeline> get(Shader shader, std::span<const uint32_t> constants);
  /// Writes the cache file if there are new pipelines. Speeds up the next start, so a failure may be ignored.
  [[nodiscard]] Status save();

  [[nodiscard]] size_t n_pipelines() const { return pipelines_.size(); }
  [[nodiscard]] bool cache_was_used() const { return cache_was_used_; }

 private:
  Pipelines() = default;
  Result<VkShaderModule> module_of(Shader shader);

  std::shared_ptr<Device> device_;
  std::string cache_file_;
  bool cache_was_used_ = false;
  bool has_new_ = false;
  VkPipelineCache cache_ = VK_NULL_HANDLE;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  std::map<Shader, VkShaderModule> modules_;
  std::map<std::pair<Shader, std::vector<uint32_t>>, VkPipeline> pipelines_;
};

}  // namespace packmule::vulkan
