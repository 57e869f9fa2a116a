// An engine on the small model, wholly or in part on the device of the tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "engine/engine_for_test.h"
#include "model/hparams.h"
#include "model/placement.h"
#include "runtime/gpu.h"
#include "vulkan/device_for_test.h"

namespace packmule::engine {

/// Everything on the device but, where asked for, the experts and the KV cache.
inline std::shared_ptr<model::Placement> placement(std::shared_ptr<runtime::Gpu> gpu, bool experts_on_device,
                                                   bool attention_on_device) {
  auto made = std::make_shared<model::Placement>();
  made->gpu = std::move(gpu);
  const auto file = gguf::File::open(small_model()).value();
  for (const gguf::TensorInfo& tensor : file.tensors())
    if (experts_on_device || tensor.name.find("_exps") == std::string_view::npos)
      made->tensors.emplace(tensor.name);
  const model::Hparams hparams = model::Hparams::read(file).value();
  for (const bool recurrent : hparams.recurrent) made->caches.push_back(recurrent || attention_on_device);
  made->n_ctx = 512;
  made->n_sequences = 2;
  return made;
}

class PlacedEngine : public vulkan::testing_support::DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped() && gpu_ == nullptr) gpu_ = runtime::Gpu::create(device()).value();
  }
  static void TearDownTestSuite() { gpu_.reset(); }

  static std::unique_ptr<Engine> open_placed(std::shared_ptr<model::Placement> where, int n_parallel = 2,
                                             int64_t cache_ram = int64_t{64} << 20) {
    return open([&](EngineOptions& options) {
      options.ctx_size = 512;
      options.ubatch_size = 64;
      options.n_parallel = n_parallel;
      options.cache_ram_bytes = cache_ram;
      options.placement = std::move(where);
    });
  }

  inline static std::shared_ptr<runtime::Gpu> gpu_;  // of all tests, so that its driver compiles once
};

inline int64_t processed(const Reply& reply) {
  return reply.outcome.statistics.prompt_tokens - reply.outcome.statistics.cached_tokens;
}

}  // namespace packmule::engine
