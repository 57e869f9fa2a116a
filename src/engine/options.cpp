#include "engine/options.h"

#include <algorithm>

#include "base/cpu.h"

namespace packmule::engine {

EngineOptions filled_in(EngineOptions options, int64_t context_length) {
  if (options.n_threads == 0) options.n_threads = usable_cores();
  if (options.ctx_size == 0) options.ctx_size = kDefaultContext;
  if (context_length > 0) options.ctx_size = std::min(options.ctx_size, context_length);
  if (options.ubatch_size == 0) options.ubatch_size = kDefaultUbatch;
  options.ubatch_size = std::min(options.ubatch_size, options.ctx_size);
  return options;
}

Result<int64_t> ubatch_for(const EngineOptions& options, const gguf::File& file,
                           model::ModelOptions model_options, int n_threads, int64_t available_bytes) {
  if (options.ubatch_size > 0) return options.ubatch_size;
  constexpr int64_t kLeast = 32, kShare = 8;
  for (model_options.ubatch_size = kDefaultUbatch; model_options.ubatch_size > kLeast;
       model_options.ubatch_size /= 2) {
    PACKMULE_TRY(const model::ModelSizes sizes, model::Model::sizes(file, model_options, n_threads));
    if (sizes.activation_bytes <= available_bytes / kShare) break;
  }
  return model_options.ubatch_size;
}

int64_t batch_tokens(const EngineOptions& options) {
  return options.ubatch_size + options.n_parallel - 1;
}

int64_t cache_ram_for(const EngineOptions& options, int64_t weight_bytes, int64_t available_bytes) {
  if (options.cache_ram_bytes) return *options.cache_ram_bytes;
  constexpr int64_t kLeast = int64_t{1} << 30, kMost = int64_t{8} << 30, kShare = 4;
  const int64_t least = std::min(kLeast, available_bytes / kShare);
  return std::clamp((available_bytes - weight_bytes) / kShare, least, kMost);
}

}  // namespace packmule::engine
