// What a tensor of the model is for, told by its name.
#pragma once

#include <array>
#include <string_view>

namespace packmule::placement {

inline constexpr auto kTensorKinds =
    std::to_array<std::string_view>({"experts", "shared experts", "router", "attention", "DeltaNet",
                                     "embeddings", "output", "norms", "multi-token prediction", "other"});

/// One of kTensorKinds. Blocks of the multi-token prediction are told apart only by their own tensors
/// (`nextn`); the rest of such a block counts as attention, experts and so on.
[[nodiscard]] std::string_view tensor_kind(std::string_view name);

}  // namespace packmule::placement
