// The flags that verbs share, named as llama.cpp names them.
//
// Each function declares its flags on a verb; what they fill must outlive the parsing. Flags of llama.cpp
// that change nothing in packmule today are accepted and say so in --help; flags that ask for something
// packmule does not have yet are refused with the reason.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cli/placement_flags.h"
#include "engine/options.h"
#include "sampling/sampler.h"

namespace packmule::cli {

/// -m, -t, -b, -ub, -ctk, -ctv, and the rules of placement (-ngl, -ot ...), which are checked; accepts -fa,
/// -tb. What the rules come to is decided by place_model().
void add_model_flags(CLI::App& verb, engine::EngineOptions& options, PlacementFlags& placement);
/// -ngl, -ot ..., --device-memory, checked.
void add_placement_flags(CLI::App& verb, PlacementFlags& placement);

/// The same without a word about placement.
void add_engine_flags(CLI::App& verb, engine::EngineOptions& options);

/// --ctx-size (-c): of one request, and of all that run at once.
void add_context_flag(CLI::App& verb, engine::EngineOptions& options);

/// What was said about sampling; everything else is the model's default.
struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
  std::optional<int32_t> top_k, repeat_last_n;
  std::optional<uint32_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;

  /// The flags over the defaults of a model.
  [[nodiscard]] sampling::Params over(sampling::Params defaults) const;
};

/// --temp, --top-k, --top-p, --min-p, --repeat-penalty, --repeat-last-n, --presence-penalty,
/// --frequency-penalty, -s, --logit-bias. Values out of range are an error of the command line.
void add_sampling_flags(CLI::App& verb, SamplingFlags& flags);

/// --parallel (-np), --cache-ram (-cram); accepts -cb, -kvu; refuses their opposites.
void add_parallel_flags(CLI::App& verb, engine::EngineOptions& options);

/// --cache-disk, --cache-disk-size.
void add_disk_flags(CLI::App& verb, engine::EngineOptions& options);

/// Accepts --jinja and --no-webui.
void add_accepted_flags(CLI::App& verb);

}  // namespace packmule::cli
