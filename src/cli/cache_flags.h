// The flags that choose the formats of the KV cache, the same for every verb that runs a model.
#pragma once

#include <CLI/CLI.hpp>

#include "quant/format.h"

namespace packmule::cli {

/// --cache-type-k and --cache-type-v (-ctk, -ctv), by name in any case. Both references must outlive the
/// parsing.
void add_cache_flags(CLI::App& verb, quant::Type& k_type, quant::Type& v_type);

}  // namespace packmule::cli
