#include "text/byte_alphabet.h"

#include <array>

namespace packmule::text {
namespace {

constexpr int kNotInAlphabet = -1;
constexpr uint32_t kAlphabetEnd = 0x100 + 68;

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<uint16_t, 256> character_of{};
  std::array<int16_t, kAlphabetEnd> byte_of{};

  constexpr Alphabet() {
    byte_of.fill(kNotInAlphabet);
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t character = stands_for_itself(byte) ? byte : next++;
      character_of[byte] = static_cast<uint16_t>(character);
      byte_of[character] = static_cast<int16_t>(byte);
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

std::string byte_character(uint8_t byte) {
  const uint32_t character = kAlphabet.character_of[byte];
  if (character < 0x80) return std::string(1, static_cast<char>(character));
  return {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
}

bool append_spelled_bytes(std::string_view token, std::string& out) {
  const size_t before = out.size();
  for (size_t i = 0; i < token.size(); ++i) {
    uint32_t character = static_cast<uint8_t>(token[i]);
    if (character >= 0xC2 && character <= 0xDF && i + 1 < token.size() &&
        (static_cast<uint8_t>(token[i + 1]) & 0xC0) == 0x80) {
      character = (character & 0x1F) << 6 | (static_cast<uint8_t>(token[i + 1]) & 0x3F);
      ++i;
    } else if (character >= 0x80) {
      character = kAlphabetEnd;  // longer or damaged: not a character of the alphabet
    }
    if (character >= kAlphabetEnd || kAlphabet.byte_of[character] == kNotInAlphabet) {
      out.resize(before);
      return false;
    }
    out += static_cast<char>(kAlphabet.byte_of[character]);
  }
  return true;
}

}  // namespace packmule::text
