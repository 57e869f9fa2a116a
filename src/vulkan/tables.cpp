#include "vulkan/tables.h"

#include "quant/codebooks.h"

namespace packmule::vulkan {
namespace {

template <class Word, size_t N>
void append(const quant::Codebook<Word, N>& book, std::vector<uint32_t>& words) {
  for (const Word entry : book.at) {
    words.push_back(static_cast<uint32_t>(entry));
    if constexpr (sizeof(Word) == 8) words.push_back(static_cast<uint32_t>(entry >> 32));
  }
}

}  // namespace

std::vector<uint32_t> grid_tables() {
  std::vector<uint32_t> words;
  append(quant::kIq2XxsGrid, words);
  append(quant::kIq2XsGrid, words);
  append(quant::kIq2SGrid, words);
  append(quant::kIq3XxsGrid, words);
  append(quant::kIq3SGrid, words);
  for (const uint64_t entry : quant::kIq1SGrid.at) {
    uint64_t biased = 0;
    for (int i = 0; i < 8; ++i) {
      const int value = static_cast<int8_t>(entry >> (8 * i));
      biased |= static_cast<uint64_t>(8 * value + 8) << (8 * i);
    }
    words.push_back(static_cast<uint32_t>(biased));
    words.push_back(static_cast<uint32_t>(biased >> 32));
  }
  return words;
}

}  // namespace packmule::vulkan
