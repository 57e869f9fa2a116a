// Which model a file holds, for what is kept on the disk for it.
#pragma once

#include <cstdint>

#include "gguf/file.h"

namespace packmule::engine {

/// Of the metadata, the directory of tensors, the size, and samples of the weights: files whose descriptions
/// are alike, as two trainings of one model have them, are told apart. Reads about 64 KiB of weights.
[[nodiscard]] uint64_t model_hash(const gguf::File& file);

}  // namespace packmule::engine
