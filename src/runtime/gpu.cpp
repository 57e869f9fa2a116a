#include "runtime/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/utf8.h"
#include "vulkan/cache_file.h"

namespace packmule::runtime {

Result<std::shared_ptr<Gpu>> Gpu::open(std::string_view name, const vulkan::MemoryPolicy& policy) {
  PACKMULE_TRY(const auto instance, vulkan::Instance::create());
  PACKMULE_TRY(const auto devices, instance->devices());
  PACKMULE_TRY(const vulkan::DeviceInfo* info, vulkan::find_device(devices, name));
  PACKMULE_TRY(auto device, vulkan::Device::create(instance, *info, policy));
  return create(std::move(device), vulkan::cache_file_path(info->pipeline_cache_uuid));
}

Result<std::shared_ptr<Gpu>> Gpu::create(std::shared_ptr<vulkan::Device> device, std::string cache_file) {
  std::shared_ptr<Gpu> gpu(new Gpu);
  gpu->device_ = std::move(device);
  PACKMULE_TRY(gpu->pipelines_, vulkan::Pipelines::create(gpu->device_, std::move(cache_file)));
  PACKMULE_TRY(gpu->ops_, vulkan::Ops::create(gpu->device_, *gpu->pipelines_));
  PACKMULE_TRY_STATUS(gpu->choose_products());
  return gpu;
}

Status Gpu::choose_products() {
  const vulkan::DeviceInfo& info = device_->info();
  integer_products_ = info.integer_dot && info.integer_dot_accelerated;
  const char* said = std::getenv("PACKMULE_DEVICE_PRODUCTS");
  if (said == nullptr) return {};
  const std::string_view products = said;
  if (products != "float" && products != "integer")
    return fail(ErrorKind::kInvalidArgument,
                "PACKMULE_DEVICE_PRODUCTS: expected float or integer, found '{}'", printable(products, 40));
  if (products == "integer" && !info.integer_dot)
    return fail(ErrorKind::kUnsupported, "PACKMULE_DEVICE_PRODUCTS: {} has no integer products; take float",
                info.id);
  integer_products_ = products == "integer";
  return {};
}

Gpu::~Gpu() {
  if (pipelines_ != nullptr) (void)pipelines_->save();  // the next start is slower, no more
}

Status Gpu::check_room(int64_t n_bytes, std::string_view what) const {
  const int64_t left = device_->budget().left_bytes(), free = device_->available_bytes();
  if (n_bytes <= left && n_bytes <= free) return {};
  return fail(
      ErrorKind::kOutOfMemory,
      "{}: {} bytes are needed ({}), {} may be taken{}; fewer layers (-ngl), experts on the CPU (--cpu-moe, "
      "--n-cpu-moe N), a smaller context (-c) or cache type (-ctk, -ctv), or a larger --device-memory would "
      "make it fit",
      device_->info().id, n_bytes, what, std::min(left, free),
      n_bytes <= left ? ": other programs use the device's memory" : "");
}

std::string Gpu::describe() const {
  const vulkan::DeviceInfo& info = device_->info();
  return fmt::format("{}: {} ({}), {}, subgroups of {}, {}", info.id, info.name,
                     vulkan::device_type_name(info.type),
                     info.driver.empty() ? "unknown driver" : info.driver, info.subgroup_size,
                     integer_products_ ? "integer products for prompts" : "float32 products");
}

}  // namespace packmule::runtime
