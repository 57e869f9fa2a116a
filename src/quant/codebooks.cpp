#include "quant/codebooks.h"

#include <bit>

#include "quant/codebook_data.h"

namespace packmule::quant {
namespace {

// Entry of `Word`, one byte a weight, from its packed form.
template <class Word, size_t N>
constexpr Codebook<Word, N> unpack(const uint16_t (&packed)[N], const int8_t* values) {
  constexpr int kWeights = sizeof(Word);
  constexpr int kBits = kWeights == 8 ? 2 : 3;
  Codebook<Word, N> book{};
  for (size_t entry = 0; entry < N; ++entry) {
    Word word = 0;
    for (int i = 0; i < kWeights; ++i) {
      const int position = packed[entry] >> (kBits * i) & ((1 << kBits) - 1);
      word |= static_cast<Word>(static_cast<uint8_t>(values[position])) << (8 * i);
    }
    book.at[entry] = word;
  }
  return book;
}

constexpr Codebook<uint8_t, 128> even_signs() {
  Codebook<uint8_t, 128> signs{};
  for (unsigned i = 0; i < 128; ++i)
    signs.at[i] = static_cast<uint8_t>(i | (std::popcount(i) % 2 == 1 ? 0x80u : 0u));
  return signs;
}

}  // namespace

constexpr Codebook<uint64_t, 256> kIq2XxsGrid = unpack<uint64_t>(packed::kIq2Xxs, packed::kIq2XxsValues);
constexpr Codebook<uint64_t, 512> kIq2XsGrid = unpack<uint64_t>(packed::kIq2Xs, packed::kIq2XsValues);
constexpr Codebook<uint64_t, 1024> kIq2SGrid = unpack<uint64_t>(packed::kIq2S, packed::kIq2SValues);
constexpr Codebook<uint32_t, 256> kIq3XxsGrid = unpack<uint32_t>(packed::kIq3Xxs, packed::kIq3XxsValues);
constexpr Codebook<uint32_t, 512> kIq3SGrid = unpack<uint32_t>(packed::kIq3S, packed::kIq3SValues);
constexpr Codebook<uint64_t, 2048> kIq1SGrid = unpack<uint64_t>(packed::kIq1S, packed::kIq1SValues);
constexpr Codebook<uint8_t, 128> kIq2Signs = even_signs();

}  // namespace packmule::quant
