#include "cache/sequence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

namespace packmule::cache {
namespace {

Layout small_layout() {
  Layout layout;
  layout.recurrent = {true, false, true, false, true};
  layout.n_kv_heads = 2;
  layout.head_dim = 32;
  layout.k_type = quant::Type::kQ8_0;
  layout.v_type = quant::Type::kF16;
  layout.conv_channels = 24;
  layout.conv_taps = 4;
  layout.n_v_heads = 2;
  layout.dk = 4;
  layout.dv = 8;
  return layout;
}

TEST(Layout, SizesAreExact) {
  const Layout layout = small_layout();
  ASSERT_TRUE(layout.validate().has_value());
  EXPECT_EQ(layout.n_attention_layers(), 2);
  EXPECT_EQ(layout.k_row_bytes(), 34);
  EXPECT_EQ(layout.v_row_bytes(), 64);
  EXPECT_EQ(layout.kv_bytes_per_token(), 2 * (2 * 34 + 2 * 64));
  EXPECT_EQ(layout.recurrent_bytes(), 3 * 4 * (2 * 4 * 8 + 3 * 24));
}

TEST(Layout, AFormatThatDoesNotDivideTheHeadIsNamed) {
  Layout layout = small_layout();
  layout.head_dim = 40;
  const Status status = layout.validate();
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("Q8_0"), std::string::npos) << status.error().message;
  EXPECT_NE(status.error().message.find("head size 40"), std::string::npos) << status.error().message;
  layout = small_layout();
  layout.v_type = quant::Type::kQ6_K;
  const Status no_cache_format = layout.validate();
  ASSERT_FALSE(no_cache_format.has_value());
  EXPECT_NE(no_cache_format.error().message.find("V cache: format Q6_K"), std::string::npos);
}

TEST(PagePool, CountsWholePagesAndRefusesWhatDoesNotFit) {
  auto pool = PagePool::create(small_layout(), 3 * kPageTokens - 5).value();
  EXPECT_EQ(pool->capacity_tokens(), 3 * kPageTokens);
  EXPECT_EQ(pool->capacity_bytes(), 3 * kPageTokens * small_layout().kv_bytes_per_token());
  auto a = pool->new_sequence().value();
  auto b = pool->new_sequence().value();
  EXPECT_EQ(pool->free_tokens(), 3 * kPageTokens);
  ASSERT_TRUE(a->reserve(kPageTokens + 1).has_value());
  EXPECT_EQ(pool->free_tokens(), kPageTokens);
  a->advance(kPageTokens + 1);
  ASSERT_TRUE(a->reserve(kPageTokens - 1).has_value());  // what its second page still holds
  EXPECT_EQ(pool->free_tokens(), kPageTokens);
  const Status too_much = b->reserve(kPageTokens + 1);
  ASSERT_FALSE(too_much.has_value());
  EXPECT_EQ(too_much.error().kind, ErrorKind::kOutOfMemory);
  EXPECT_EQ(pool->free_tokens(), kPageTokens);
  ASSERT_FALSE(b->reserve(INT64_MAX).has_value());
  ASSERT_TRUE(b->reserve(kPageTokens).has_value());
  EXPECT_EQ(pool->free_tokens(), 0);
  a->reset();
  EXPECT_EQ(a->n_tokens(), 0);
  EXPECT_EQ(pool->free_tokens(), 2 * kPageTokens);
  b.reset();
  EXPECT_EQ(pool->free_tokens(), 3 * kPageTokens);
  EXPECT_FALSE(PagePool::create(small_layout(), 0).has_value());
  EXPECT_FALSE(PagePool::create(small_layout(), INT64_MAX).has_value());
}

// Every row of every sequence is filled with its own pattern and read back through the page tables: no two
// rows share a byte.
TEST(Sequence, RowsDoNotOverlapAndTablesFindThem) {
  const Layout layout = small_layout();
  auto pool = PagePool::create(layout, 4 * kPageTokens).value();
  auto a = pool->new_sequence().value();
  auto b = pool->new_sequence().value();
  // Pages are handed out alternately, so that neither sequence holds neighbours.
  for (int i = 0; i < 2; ++i)
    for (Sequence* sequence : {a.get(), b.get()}) {
      ASSERT_TRUE(sequence->reserve(kPageTokens).has_value());
      sequence->advance(kPageTokens);
    }
  auto fill = [&](auto&& visit) {
    int pattern = 0;
    for (Sequence* sequence : {a.get(), b.get()})
      for (const int layer : {1, 3})
        for (int64_t head = 0; head < layout.n_kv_heads; ++head)
          for (int64_t token = 0; token < 2 * kPageTokens; ++token) {
            visit(*sequence, layer, head, token, false, static_cast<unsigned char>(++pattern % 251));
            visit(*sequence, layer, head, token, true, static_cast<unsigned char>(++pattern % 251));
          }
  };
  std::set<std::byte*> rows;
  fill([&](Sequence& sequence, int layer, int64_t head, int64_t token, bool is_v, unsigned char value) {
    std::byte* row = is_v ? sequence.v_row(layer, head, token) : sequence.k_row(layer, head, token);
    EXPECT_TRUE(rows.insert(row).second);
    std::memset(row, value, static_cast<size_t>(is_v ? layout.v_row_bytes() : layout.k_row_bytes()));
  });
  int64_t wrong = 0;
  fill([&](Sequence& sequence, int layer, int64_t head, int64_t token, bool is_v, unsigned char value) {
    const int64_t row_bytes = is_v ? layout.v_row_bytes() : layout.k_row_bytes();
    const auto pages = is_v ? sequence.v_pages(layer, head) : sequence.k_pages(layer, head);
    ASSERT_EQ(pages.size(), 2u);
    const auto* at = static_cast<const unsigned char*>(pages[static_cast<size_t>(token / kPageTokens)]) +
                     token % kPageTokens * row_bytes;
    for (int64_t i = 0; i < row_bytes; ++i) wrong += at[i] != value;
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Sequence, RecurrentStateIsApartPerLayerAndZeroAfterReset) {
  const Layout layout = small_layout();
  auto pool = PagePool::create(layout, kPageTokens).value();
  auto sequence = pool->new_sequence().value();
  const int64_t state_floats = layout.n_v_heads * layout.dk * layout.dv;
  const int64_t history_floats = (layout.conv_taps - 1) * layout.conv_channels;
  auto count = [&](float value) {
    int64_t n = 0;
    for (const int layer : {0, 2, 4}) {
      for (int64_t i = 0; i < state_floats; ++i)
        n += sequence->state(layer)[i] == value + static_cast<float>(layer);
      for (int64_t i = 0; i < history_floats; ++i)
        n += sequence->conv_history(layer)[i] == value - static_cast<float>(layer);
    }
    return n;
  };
  for (const int layer : {0, 2, 4}) {
    std::fill_n(sequence->state(layer), state_floats, 100.0f + static_cast<float>(layer));
    std::fill_n(sequence->conv_history(layer), history_floats, 100.0f - static_cast<float>(layer));
  }
  EXPECT_EQ(count(100), 3 * (state_floats + history_floats));
  sequence->reset();
  for (const int layer : {0, 2, 4}) {
    for (int64_t i = 0; i < state_floats; ++i) ASSERT_EQ(sequence->state(layer)[i], 0.0f);
    for (int64_t i = 0; i < history_floats; ++i) ASSERT_EQ(sequence->conv_history(layer)[i], 0.0f);
  }
}

TEST(Sequence, AModelWithoutAttentionHasPagesOfNoBytes) {
  Layout layout = small_layout();
  layout.recurrent = {true, true};
  auto pool = PagePool::create(layout, 1000).value();
  EXPECT_EQ(pool->capacity_bytes(), 0);
  auto sequence = pool->new_sequence().value();
  EXPECT_TRUE(sequence->reserve(1000).has_value());
  EXPECT_FALSE(sequence->reserve(2000).has_value());
}

}  // namespace
}  // namespace packmule::cache
