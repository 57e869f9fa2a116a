// What comes out of the tree is what went in: a stand-in for the model writes into every row and state what
// the tokens before it determine, and every sequence that goes on from a checkpoint is looked at as a whole.
#include "cache/prefix_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "cache/device_memory_for_test.h"
#include "cache/marked_sequence_for_test.h"

namespace packmule::cache {
namespace {

class PrefixTreeTest : public testing::Test {
 protected:
  void make(int64_t pages, int64_t checkpoints) {
    pool = PagePool::create(small_layout(), pages * kPageTokens).value();
    const int64_t bytes = checkpoints * (small_layout().recurrent_bytes() + 10000);
    tree = std::make_unique<PrefixTree>(pool, bytes);
    sequence = pool->new_sequence().value();
  }
  bool keep(const Ids& tokens, const Sequence& from, std::vector<float> logits = {}) {
    auto state = tree->take_state();
    if (state == nullptr) return false;
    state->copy_from(from.recurrent());
    tree->insert(tokens, from.page_numbers(), std::move(state), std::move(logits));
    return true;
  }
  /// Runs a text through the tree: goes on from what it finds, keeps checkpoints at `marks` and returns what
  /// was found.
  int64_t run(const Ids& tokens, const std::vector<int64_t>& marks) {
    const int64_t found = tree->resume(tokens, *sequence).n_tokens;
    EXPECT_EQ(sequence->n_tokens(), found);
    EXPECT_EQ(n_wrong(*sequence, tokens), 0);
    for (const int64_t at : marks) {
      if (at <= sequence->n_tokens()) continue;
      extend(*sequence, tokens, at);
      keep({tokens.begin(), tokens.begin() + at}, *sequence);
    }
    return found;
  }
  std::shared_ptr<PagePool> pool;
  std::unique_ptr<PrefixTree> tree;
  std::unique_ptr<Sequence> sequence;
};

Ids text(int64_t n, int32_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 1000);
  return ids;
}

TEST_F(PrefixTreeTest, GoesOnFromTheDeepestCheckpoint) {
  make(100, 100);
  const Ids a = text(300, 1);
  EXPECT_EQ(run(a, {70, 128, 300}), 0);
  EXPECT_EQ(tree->n_checkpoints(), 3);
  Ids b = a;
  b.resize(400, 3);
  EXPECT_EQ(run(b, {400}), 300);
  b[250] = -1;  // an edit in the middle
  EXPECT_EQ(run(b, {200, 400}), 128);
  b[127] = -1;
  EXPECT_EQ(run(b, {}), 70);
  b[0] = -1;
  EXPECT_EQ(run(b, {}), 0);
  EXPECT_EQ(run(Ids(a.begin(), a.begin() + 128), {}), 70) << "no logits for the whole of it";
  EXPECT_EQ(tree->find(Ids(a.begin(), a.begin() + 129)), 128);
  EXPECT_EQ(run({}, {}), 0);
}

TEST_F(PrefixTreeTest, TheWholePromptWhenItsLogitsAreThere) {
  make(100, 100);
  const Ids a = text(100, 1);
  run(a, {100});
  EXPECT_EQ(tree->find(a), 0);
  ASSERT_TRUE(keep(a, *sequence, {1, 2, 3}));
  EXPECT_EQ(tree->n_checkpoints(), 1);
  auto other = pool->new_sequence().value();
  const auto found = tree->resume(a, *other);
  EXPECT_EQ(found.n_tokens, 100);
  EXPECT_EQ(std::vector<float>(found.logits.begin(), found.logits.end()), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(n_wrong(*other, a), 0);
}

TEST_F(PrefixTreeTest, PagesAreSharedAndWritersDoNotMeet) {
  make(100, 100);
  Ids a = text(200, 1), b = a;
  b.resize(130);
  b.resize(200, 7);
  run(a, {130});
  extend(*sequence, a, 200);  // goes on writing in the page of the checkpoint
  auto other = pool->new_sequence().value();
  ASSERT_EQ(tree->resume(b, *other).n_tokens, 130);
  EXPECT_EQ(other->page_numbers()[0], sequence->page_numbers()[0]);
  EXPECT_EQ(other->page_numbers()[1], sequence->page_numbers()[1]);
  EXPECT_NE(other->page_numbers()[2], sequence->page_numbers()[2]);
  extend(*other, b, 200);
  EXPECT_EQ(n_wrong(*sequence, a), 0);
  EXPECT_EQ(n_wrong(*other, b), 0);
  EXPECT_EQ(pool->n_free_pages(), 100 - 4 - 2);
  sequence->release();
  other->release();
  EXPECT_EQ(pool->n_kept_pages(), 3);
  EXPECT_EQ(pool->n_free_pages(), 97);
  tree->clear();
  EXPECT_EQ(pool->n_kept_pages(), 0);
  EXPECT_EQ(pool->n_free_pages(), 100);
}

TEST_F(PrefixTreeTest, PagesAreFreedForThoseWhoNeedThem) {
  make(10, 100);
  for (int32_t seed = 0; seed < 3; ++seed) run(text(190, seed), {100, 190});
  sequence->release();
  EXPECT_EQ(pool->n_free_pages(), 1);
  EXPECT_FALSE(tree->free_pages(11));
  EXPECT_EQ(tree->n_checkpoints(), 6) << "what does not help is not done";
  EXPECT_TRUE(tree->free_pages(5));
  EXPECT_GE(pool->n_free_pages(), 5);
  EXPECT_EQ(tree->find(text(190, 2)), 100) << "the latest is still there";
  EXPECT_EQ(tree->find(text(190, 0)), 0);
  EXPECT_TRUE(tree->free_pages(10));
  EXPECT_EQ(tree->n_checkpoints(), 0);
  // A page that a sequence has cannot be had.
  run(text(190, 1), {190});
  EXPECT_FALSE(tree->free_pages(8));
  EXPECT_TRUE(tree->free_pages(7));
  EXPECT_EQ(tree->n_checkpoints(), 1);
}

TEST_F(PrefixTreeTest, WhatSavesMostStaysLongest) {
  make(1000, 6);
  Ids system = text(600, 1);
  run(system, {600});
  for (int32_t i = 0; i < 20; ++i) {
    Ids chat = system;
    chat.resize(610, i);
    chat.resize(640, 5);
    EXPECT_EQ(run(chat, {610, 640}), 600) << i;
    EXPECT_LE(tree->size_bytes(), tree->budget_bytes());
  }
  EXPECT_LE(tree->n_checkpoints(), 60);
  // Not for ever: what nobody asks for any more goes, even if it was long.
  for (int32_t i = 0; i < 300; ++i) run(text(300, 100 + i), {300});
  Ids chat = system;
  chat.push_back(1);
  EXPECT_EQ(tree->find(chat), 0);
}

TEST_F(PrefixTreeTest, WithoutABudgetNothingIsKept) {
  make(10, 0);
  EXPECT_EQ(tree->take_state(), nullptr);
  EXPECT_EQ(run(text(100, 1), {50, 100}), 0);
  EXPECT_EQ(run(text(100, 1), {50, 100}), 0);
  EXPECT_EQ(tree->size_bytes(), 0);
}

// The budget is the host's; a device that has room for fewer keeps the latest.
TEST_F(PrefixTreeTest, ADeviceMayHaveRoomForFewer) {
  Layout layout = small_layout();
  layout.recurrent.push_back(true);
  layout.on_device = {false, false, false, true};
  const auto device = std::make_shared<FakeDevice>(layout);
  pool = PagePool::create(layout, 100 * kPageTokens, device).value();
  tree = std::make_unique<PrefixTree>(pool, int64_t{1} << 20);
  sequence = pool->new_sequence().value();
  device->states_left = 3;
  for (int32_t i = 0; i < 8; ++i) {
    EXPECT_EQ(run(text(100, i), {100}), 0);
    EXPECT_EQ(tree->find([&] {
      Ids more = text(100, i);
      more.push_back(1);
      return more;
    }()),
              100);
    EXPECT_EQ(tree->n_checkpoints(), std::min(i + 1, 3));
  }
  tree->clear();
  EXPECT_EQ(tree->take_state(), nullptr);
}

TEST_F(PrefixTreeTest, StatesGivenBackAreUsedAgain) {
  make(10, 1);
  auto state = tree->take_state();
  ASSERT_NE(state, nullptr);
  const RecurrentState* first = state.get();
  tree->give_back(std::move(state));
  state = tree->take_state();
  EXPECT_EQ(state.get(), first);
  tree->give_back(std::move(state));
}

// Random trees of conversations, many of them, in a pool and a budget that are both too small: whatever is
// found is right, and no page is lost.
TEST_F(PrefixTreeTest, RandomConversations) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
    make(12 + below(30), 1 + below(12));
    std::vector<Ids> past{{}};
    std::vector<std::unique_ptr<Sequence>> sequences;
    std::vector<Ids> texts(3);
    for (int i = 0; i < 3; ++i) sequences.push_back(pool->new_sequence().value());
    int64_t n_found = 0;
    for (int step = 0; step < 150; ++step) {
      const auto which = static_cast<size_t>(below(3));
      Sequence& at = *sequences[which];
      if (below(4) == 0) {
        at.release();
        texts[which].clear();
        at.reset();
        continue;
      }
      // A beginning of a past text, and something new.
      const Ids& base = past[static_cast<size_t>(below(static_cast<int64_t>(past.size())))];
      Ids tokens(base.begin(), base.begin() + below(static_cast<int64_t>(base.size()) + 1));
      for (int64_t n = 1 + below(150); n > 0; --n) tokens.push_back(static_cast<int32_t>(below(3)));
      if (tokens.size() > 400) tokens.resize(400);
      const int64_t expected = tree->find(tokens);
      texts[which] = tokens;
      const auto found = tree->resume(tokens, at);
      EXPECT_TRUE(found.n_tokens == expected || found.n_tokens == 0);
      n_found += found.n_tokens;
      while (at.n_tokens() < static_cast<int64_t>(tokens.size())) {
        const int64_t n =
            std::min<int64_t>(static_cast<int64_t>(tokens.size()), at.n_tokens() + 1 + below(90));
        if (!tree->free_pages(at.pages_to_reserve(n - at.n_tokens()))) break;
        extend(at, tokens, n);
        if (below(3) != 0)
          keep({tokens.begin(), tokens.begin() + n}, at,
               below(2) ? std::vector<float>{1} : std::vector<float>{});
      }
      past.push_back(tokens);
      for (size_t i = 0; i < sequences.size(); ++i)
        ASSERT_EQ(n_wrong(*sequences[i], texts[i]), 0) << "seed " << seed << " step " << step;
      ASSERT_LE(tree->size_bytes(), tree->budget_bytes());
    }
    EXPECT_GT(n_found, 0) << seed;
    sequences.clear();
    EXPECT_EQ(pool->n_free_pages() + pool->n_kept_pages(), pool->n_pages());
    EXPECT_TRUE(tree->free_pages(pool->n_pages()));
    EXPECT_EQ(tree->n_checkpoints(), 0);
    EXPECT_EQ(pool->n_free_pages(), pool->n_pages());
  }
}

}  // namespace
}  // namespace packmule::cache
