// GET /v1/models: the one model this server has.
#pragma once

#include "api/backend.h"

namespace packmule::api {

/// One entry: id, object, created, owned_by, and llama-server's `meta`.
[[nodiscard]] Json model_json(const ModelInfo& info);
[[nodiscard]] Json model_list_json(const ModelInfo& info);

}  // namespace packmule::api
