// POST /tokenize and /detokenize, llama-server's view of the tokenizer.
#pragma once

#include "api/backend.h"
#include "api/error.h"

namespace packmule::api {

/// {"content", "add_special" = false, "parse_special" = true, "with_pieces" = false} -> {"tokens": [ids]}, or
/// with pieces [{"id", "piece"}], where a piece that is not UTF-8 is an array of bytes.
[[nodiscard]] ApiResult<Json> tokenize(Backend& backend, const Json& body);

/// {"tokens": [ids]} -> {"content"}, bytes that are not UTF-8 replaced.
[[nodiscard]] ApiResult<Json> detokenize(Backend& backend, const Json& body);

}  // namespace packmule::api
