// The one description of how an engine is set up. Flags, configuration and /props are adapters on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/numa.h"
#include "base/result.h"
#include "base/system_memory.h"
#include "gguf/file.h"
#include "model/model.h"
#include "quant/format.h"

namespace packmule::engine {

inline constexpr int64_t kDefaultDiskBytes = int64_t{16} << 30;

struct EngineOptions {
  std::string model_path;
  int n_threads = 0;        // 0: all cores this process may use
  int64_t ctx_size = 0;     // tokens of one conversation, and of all that run at once together; at most what
                            // the model was trained for; 0: at most kDefaultContext
  int64_t ubatch_size = 0;  // -ub: most tokens that go through the model at once; 0: ubatch_for() chooses
  quant::Type k_type = quant::Type::kF16;  // -ctk
  quant::Type v_type = quant::Type::kF16;  // -ctv
  model::LoadMode load_mode = model::LoadMode::kAuto;
  std::shared_ptr<const model::Placement> placement = nullptr;  // what is on a graphics device; null: nothing
  Numa numa = Numa::kLeaveAlone;  // --numa
  int n_parallel = 1;             // -np: requests that are generated at the same time
  /// --cache-ram: what past conversations may take, half of it KV pages beyond those of the context, half
  /// checkpoints; 0: nothing is kept; unset: cache_ram_for() chooses.
  std::optional<int64_t> cache_ram_bytes;
  /// --cache-disk: a folder for past conversations that memory has no room for, and for all of them when the
  /// engine ends; "": none. --cache-disk-size: bytes of it.
  std::string cache_disk_path;
  int64_t cache_disk_bytes = kDefaultDiskBytes;
  /// Gets lines about what went wrong without anybody being told otherwise; may be unset.
  std::function<void(const std::string& line)> warn;
  /// Most prompt tokens of a step while other requests are decoding: they wait for it. Alone, prompts get
  /// whole ubatches.
  int64_t prompt_chunk = 256;
};

inline constexpr int kMaxParallel = 64;
/// What a server offers when nobody says: a few agents, or one with its helpers. A place costs its recurrent
/// state (75.5 MB in the 80B model) and a row of logits; KV pages come from the pool that all share.
inline constexpr int kDefaultParallel = 4;
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

/// Tokens of the largest batch: a ubatch of prompts, and one token of each other request.
[[nodiscard]] int64_t batch_tokens(const EngineOptions& options);

/// The cache budget asked for, or else a quarter of the memory that is available and not needed by
/// `weight_bytes` that are still to be read, but at least 1 GiB (or a quarter of what is available, if that
/// is less) and at most 8 GiB, llama-server's default.
[[nodiscard]] int64_t cache_ram_for(const EngineOptions& options, int64_t weight_bytes,
                                    int64_t available_bytes = available_memory_bytes());

}  // namespace packmule::engine
