#include "vulkan/pipeline.h"

#include <algorithm>

#include "vulkan/cache_file.h"

namespace packmule::vulkan {

Result<std::unique_ptr<Pipelines>> Pipelines::create(std::shared_ptr<Device> device, std::string cache_file) {
  std::unique_ptr<Pipelines> pipelines(new Pipelines);
  pipelines->device_ = std::move(device);
  pipelines->cache_file_ = std::move(cache_file);
  const Device& d = *pipelines->device_;

  std::vector<std::byte> known;
  if (!pipelines->cache_file_.empty())
    known = read_cache_file(pipelines->cache_file_, d.info().pipeline_cache_uuid);
  pipelines->cache_was_used_ = !known.empty();
  VkPipelineCacheCreateInfo cache{VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  cache.initialDataSize = known.size();
  cache.pInitialData = known.data();
  PACKMULE_VK(d.fn().vkCreatePipelineCache(d.handle(), &cache, nullptr, &pipelines->cache_));

  const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, kPushBytes};
  VkPipelineLayoutCreateInfo layout{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
  layout.pushConstantRangeCount = 1;
  layout.pPushConstantRanges = &push;
  PACKMULE_VK(d.fn().vkCreatePipelineLayout(d.handle(), &layout, nullptr, &pipelines->layout_));
  return pipelines;
}

Pipelines::~Pipelines() {
  const Device& d = *device_;
  for (const auto& [key, pipeline] : pipelines_) d.fn().vkDestroyPipeline(d.handle(), pipeline, nullptr);
  for (const auto& [shader, module] : modules_) d.fn().vkDestroyShaderModule(d.handle(), module, nullptr);
  if (layout_ != VK_NULL_HANDLE) d.fn().vkDestroyPipelineLayout(d.handle(), layout_, nullptr);
  if (cache_ != VK_NULL_HANDLE) d.fn().vkDestroyPipelineCache(d.handle(), cache_, nullptr);
}

Result<VkShaderModule> Pipelines::module_of(Shader shader) {
  if (const auto found = modules_.find(shader); found != modules_.end()) return found->second;
  const std::span<const uint32_t> code = shader_code(shader);
  VkShaderModuleCreateInfo create{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  create.codeSize = code.size_bytes();
  create.pCode = code.data();
  VkShaderModule module = VK_NULL_HANDLE;
  PACKMULE_VK(device_->fn().vkCreateShaderModule(device_->handle(), &create, nullptr, &module));
  modules_[shader] = module;
  return module;
}

Result<Pipeline> Pipelines::get(Shader shader, std::span<const uint32_t> constants) {
  const std::pair key(shader, std::vector(constants.begin(), constants.end()));
  if (const auto found = pipelines_.find(key); found != pipelines_.end())
    return Pipeline{found->second, layout_};
  PACKMULE_TRY(const VkShaderModule module, module_of(shader));

  std::vector<VkSpecializationMapEntry> entries;
  for (uint32_t i = 0; i < constants.size(); ++i) entries.push_back({i, 4 * i, 4});
  const VkSpecializationInfo specialization{static_cast<uint32_t>(entries.size()), entries.data(),
                                            constants.size_bytes(), constants.data()};
  VkComputePipelineCreateInfo create{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
  create.stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO};
  create.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  create.stage.module = module;
  create.stage.pName = "main";
  create.stage.pSpecializationInfo = &specialization;
  create.layout = layout_;
  VkPipeline pipeline = VK_NULL_HANDLE;
  const VkResult result =
      device_->fn().vkCreateComputePipelines(device_->handle(), cache_, 1, &create, nullptr, &pipeline);
  if (result != VK_SUCCESS) {
    Error error = call_error("vkCreateComputePipelines", result);
    error.message = fmt::format("{}: shader {}: {}", device_->info().id, shader_name(shader), error.message);
    return tl::unexpected<Error>(std::move(error));
  }
  pipelines_[key] = pipeline;
  has_new_ = true;
  return Pipeline{pipeline, layout_};
}

Status Pipelines::save() {
  if (cache_file_.empty() || !has_new_) return {};
  const Device& d = *device_;
  size_t size = 0;
  PACKMULE_VK(d.fn().vkGetPipelineCacheData(d.handle(), cache_, &size, nullptr));
  std::vector<std::byte> data(size);
  PACKMULE_VK(d.fn().vkGetPipelineCacheData(d.handle(), cache_, &size, data.data()));
  data.resize(size);
  PACKMULE_TRY_STATUS(write_cache_file(cache_file_, d.info().pipeline_cache_uuid, data));
  has_new_ = false;
  return {};
}

}  // namespace packmule::vulkan
