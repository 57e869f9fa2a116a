#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>

namespace packmule::text {
namespace {

/// Merging as it is defined: look at all pairs, merge the leftmost one of the lowest rank, start over.
std::vector<int32_t> merge_by_definition(const MergeTable& table, std::vector<int32_t> symbols) {
  while (true) {
    uint32_t best = PairTable::kNone;
    size_t where = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const uint32_t rank = table.rank(symbols[i], symbols[i + 1]);
      if (rank < best) {
        best = rank;
        where = i;
      }
    }
    if (best == PairTable::kNone) return symbols;
    symbols[where] = table.merged(best);
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(where) + 1);
  }
}

TEST(BpeMerger, AgreesWithTheDefinitionOnRandomMerges) {
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    const int n_letters = 1 + static_cast<int>(random() % 4);
    const int n_merges = static_cast<int>(random() % 30);
    MergeTable table(n_merges);
    int n_tokens = n_letters;
    for (int i = 0; i < n_merges; ++i) {
      const auto left = static_cast<int32_t>(random() % n_tokens);
      const auto right = static_cast<int32_t>(random() % n_tokens);
      if (table.rank(left, right) != PairTable::kNone) continue;
      table.add(left, right, n_tokens++);
    }
    BpeMerger merger(table);
    for (int text = 0; text < 10; ++text) {
      std::vector<int32_t> symbols(random() % 60);
      for (int32_t& symbol : symbols) symbol = static_cast<int32_t>(random() % n_letters);
      std::vector<int32_t> got = {-7};  // results are appended
      merger.merge(symbols, got);
      std::vector<int32_t> expected = merge_by_definition(table, symbols);
      expected.insert(expected.begin(), -7);
      ASSERT_EQ(got, expected) << "round " << round << ", text " << text;
    }
  }
}

TEST(BpeMerger, OfEqualPairsTheLeftmostGoesFirst) {
  MergeTable table(1);
  ASSERT_EQ(table.add(0, 0, 1), -1);
  BpeMerger merger(table);
  std::vector<int32_t> got;
  merger.merge({0, 0, 0}, got);
  EXPECT_EQ(got, (std::vector<int32_t>{1, 0}));
}

TEST(MergeTable, TellsOfARepeatedPair) {
  MergeTable table(3);
  EXPECT_EQ(table.add(1, 2, 3), -1);
  EXPECT_EQ(table.add(2, 1, 4), -1);
  EXPECT_EQ(table.add(1, 2, 5), 0);
  EXPECT_EQ(table.rank(2, 1), 1u);
  EXPECT_EQ(table.rank(1, 3), PairTable::kNone);
}

}  // namespace
}  // namespace packmule::text
