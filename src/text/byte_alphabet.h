// The byte alphabet of GPT-2: every byte has a printable character that stands for it in a vocabulary.
//
// Printable Latin-1 characters stand for themselves; the other 68 bytes, in ascending order, are U+0100
// upward (space is U+0120). A vocabulary spells its tokens in these characters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace packmule::text {

/// The character of a byte, in UTF-8.
[[nodiscard]] std::string byte_character(uint8_t byte);

/// The bytes a token spells, or nothing if it holds a character outside of the alphabet.
[[nodiscard]] bool append_spelled_bytes(std::string_view token, std::string& out);

}  // namespace packmule::text
