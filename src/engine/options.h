// The one description of how an engine is set up. Flags, configuration and /props are adapters on it.
#pragma once

#include <cstdint>
#include <string>

#include "base/numa.h"
#include "model/residency.h"
#include "quant/format.h"

namespace packmule::engine {

struct EngineOptions {
  std::string model_path;
  int n_threads = 0;           // 0: all cores this process may use
  int64_t ctx_size = 0;        // tokens, at most what the model was trained for; 0: at most kDefaultContext
  int64_t ubatch_size = 2048;  // -ub: most tokens that go through the model at once
  quant::Type k_type = quant::Type::kF16;  // -ctk
  quant::Type v_type = quant::Type::kF16;  // -ctv
  model::LoadMode load_mode = model::LoadMode::kAuto;
  Numa numa = Numa::kLeaveAlone;  // --numa
};

inline constexpr int64_t kDefaultContext = 32768;

/// The options with what was left open filled in, for a model trained for `context_length` tokens.
[[nodiscard]] EngineOptions filled_in(EngineOptions options, int64_t context_length);

}  // namespace packmule::engine
