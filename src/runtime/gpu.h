// A graphics device that a model computes on: the device with its pipelines and ops.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "vulkan/device.h"
#include "vulkan/ops.h"
#include "vulkan/pipeline.h"

namespace packmule::runtime {

class Gpu {
 public:
  /// Opens the device that `name` ("Vulkan0") means. What its driver compiles is kept in the user's cache
  /// folder.
  static Result<std::shared_ptr<Gpu>> open(std::string_view name, const vulkan::MemoryPolicy& policy);
  /// On an opened device; `cache_file` as in vulkan::Pipelines. PACKMULE_DEVICE_PRODUCTS decides about
  /// integer_products() ("float" or "integer"), else the device; an error when it says anything else, or what
  /// the device has not.
  static Result<std::shared_ptr<Gpu>> create(std::shared_ptr<vulkan::Device> device,
                                             std::string cache_file = {});
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  [[nodiscard]] const std::shared_ptr<vulkan::Device>& device() const { return device_; }
  [[nodiscard]] vulkan::Ops& ops() const { return *ops_; }

  /// Whether more than few tokens are multiplied with block formats as rounded bytes (vulkan/ops.h): where
  /// the device says that its packed products are faster than what they replace.
  [[nodiscard]] bool integer_products() const { return integer_products_; }
  /// Before models are loaded; for tests. Only where the device has packed products.
  void use_integer_products(bool yes) { integer_products_ = yes; }

  /// An error (kOutOfMemory), with the numbers and what would help, unless so many bytes more may be taken:
  /// by the budget, and by what the driver has left. `what` lists them: "12 bytes of weights, ...".
  [[nodiscard]] Status check_room(int64_t n_bytes, std::string_view what) const;

  /// "Vulkan0: llvmpipe (...), driver ..., subgroups of 8, float32 products": for the log.
  [[nodiscard]] std::string describe() const;

 private:
  Gpu() = default;
  Status choose_products();
  std::shared_ptr<vulkan::Device> device_;
  std::unique_ptr<vulkan::Pipelines> pipelines_;
  std::unique_ptr<vulkan::Ops> ops_;
  bool integer_products_ = false;
};

}  // namespace packmule::runtime
