// GET /props and /slots, llama-server's view of the server.
#pragma once

#include "api/backend.h"

namespace packmule::api {

/// What requests leave unset, the context, the chat template.
[[nodiscard]] Json props_json(const Backend& backend);

/// What each slot is doing, in counts of tokens; never text.
[[nodiscard]] Json slots_json(const Backend& backend);

}  // namespace packmule::api
