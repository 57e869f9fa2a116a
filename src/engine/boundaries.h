// Where a conversation may be gone on from: the ends of its messages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace packmule::engine {

/// Positions behind each control token that ends a message (`<|im_end|>`) and the line break after it, if
/// there is one: no knowledge of the template is needed, and text that only looks like a control token is
/// none. Ascending, the end of the prompt left out.
[[nodiscard]] std::vector<int64_t> message_boundaries(std::span<const int32_t> prompt,
                                                      const text::Tokenizer& tokenizer);

/// Ascending positions without those that lie less than four tokens behind the one before that is kept. No
/// real message is as short; but a prompt of nothing but ends of messages would be read token by token.
[[nodiscard]] std::vector<int64_t> apart(std::span<const int64_t> positions);

/// Of ascending positions at most `most`: the first and the last ones, and between them what leaves no gap
/// much longer than others.
[[nodiscard]] std::vector<int64_t> thin_out(std::span<const int64_t> positions, size_t most);

}  // namespace packmule::engine
