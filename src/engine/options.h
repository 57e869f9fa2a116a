// The one description of how an engine is set up. Flags, configuration and /props are adapters on it.
#pragma once

#include <cstdint>
#include <string>

#include "base/numa.h"
#include "base/result.h"
#include "base/system_memory.h"
#include "gguf/file.h"
#include "model/model.h"
#include "quant/format.h"

namespace packmule::engine {

struct EngineOptions {
  std::string model_path;
  int n_threads = 0;        // 0: all cores this process may use
  int64_t ctx_size = 0;     // tokens, at most what the model was trained for; 0: at most kDefaultContext
  int64_t ubatch_size = 0;  // -ub: most tokens that go through the model at once; 0: ubatch_for() chooses
  quant::Type k_type = quant::Type::kF16;  // -ctk
  quant::Type v_type = quant::Type::kF16;  // -ctv
  model::LoadMode load_mode = model::LoadMode::kAuto;
  Numa numa = Numa::kLeaveAlone;  // --numa
};

inline constexpr int64_t kDefaultContext = 32768;
/// Each expert's weights are read once a ubatch: with 2,048 tokens, 40 for an expert of 512, arithmetic takes
/// longer.
inline constexpr int64_t kDefaultUbatch = 2048;

/// The options with what was left open filled in, for a model trained for `context_length` tokens; a ubatch
/// size that was left open becomes kDefaultUbatch.
[[nodiscard]] EngineOptions filled_in(EngineOptions options, int64_t context_length);

/// The ubatch size asked for, or else the largest of kDefaultUbatch and its halves, not below 32, whose
/// activations take at most an eighth of the memory that is available: the rest is the weights'. An error is
/// the file's. model_options.ubatch_size is not read.
[[nodiscard]] Result<int64_t> ubatch_for(const EngineOptions& options, const gguf::File& file,
                                         model::ModelOptions model_options, int n_threads,
                                         int64_t available_bytes = available_memory_bytes());

}  // namespace packmule::engine
