// An engine whose model is on a device, wholly or in part: slots, checkpoints and the prefix tree work as
// they do on the CPU, and a device that is lost takes requests with it, not the engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "engine/placed_engine_for_test.h"

namespace packmule::engine {
namespace {

using testing::HasSubstr;

// Greedy: what is gone on from is read in other pieces than a prompt from its start, and differs by rounding.
TEST_F(PlacedEngine, LaterPromptsGoOnFromEarlierOnes) {
  for (const auto& [experts, attention] :
       {std::pair(true, true), std::pair(false, true), std::pair(false, false)}) {
    SCOPED_TRACE(testing::Message() << experts << attention);
    const auto engine = open_placed(placement(gpu_, experts, attention));
    ASSERT_NE(engine, nullptr);
    const auto fresh = open_placed(placement(gpu_, experts, attention), 1, 0);
    ASSERT_NE(fresh, nullptr);
    Ids history = prompt(*engine, kText);
    const Reply first = run(*engine, request(history, 10));
    EXPECT_EQ(processed(first), std::ssize(history));
    EXPECT_EQ(first.outcome.tokens, run(*fresh, request(history, 10)).outcome.tokens);
    const Reply second = run(*engine, request(history, 10));
    EXPECT_LE(processed(second), 1);
    EXPECT_EQ(second.outcome.tokens, first.outcome.tokens);
    // On from the end of the answer, in the middle of a page, then on from the prompt once more.
    Ids longer = history;
    longer.insert(longer.end(), first.outcome.tokens.begin(), first.outcome.tokens.end());
    const Ids more = prompt(*engine, "\nand once more");
    longer.insert(longer.end(), more.begin(), more.end());
    const Reply third = run(*engine, request(longer, 8));
    EXPECT_LT(processed(third), std::ssize(longer) - std::ssize(history) + 1);
    EXPECT_EQ(third.outcome.tokens, run(*fresh, request(longer, 8)).outcome.tokens);
    history.insert(history.end(), more.begin(), more.end());
    const Reply fourth = run(*engine, request(history, 8));
    EXPECT_LE(processed(fourth), std::ssize(more) + 1);
    EXPECT_EQ(fourth.outcome.tokens, run(*fresh, request(history, 8)).outcome.tokens);
  }
}

TEST_F(PlacedEngine, AnswersAtTheSameTimeAreThoseOfOneAlone) {
  const auto engine = open_placed(placement(gpu_, false, true), 2, 0);
  ASSERT_NE(engine, nullptr);
  const std::vector<std::string> texts{"one two three four five six", "return the right string",
                                       "for i in range"};
  std::vector<Ids> alone;
  for (const std::string& text : texts)
    alone.push_back(run(*engine, request(prompt(*engine, text), 12)).outcome.tokens);
  std::vector<Ids> together(texts.size());
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < texts.size(); ++i)
      threads.emplace_back(
          [&, i] { together[i] = run(*engine, request(prompt(*engine, texts[i]), 12)).outcome.tokens; });
  }
  EXPECT_EQ(together, alone);
}

TEST_F(PlacedEngine, ALostDeviceEndsRequestsAndNotTheEngine) {
  const auto own = vulkan::Device::create(test().instance, test().info).value();
  const auto engine = open_placed(placement(runtime::Gpu::create(own).value(), false, true));
  ASSERT_NE(engine, nullptr);
  const Request what = request(prompt(*engine, kText), 20);
  const Reply before = run(*engine, what);
  own->lose_after(20);  // while the answer is written
  for (int i = 0; i < 2; ++i) {
    const auto outcome = engine->generate(what, {}, {});
    ASSERT_FALSE(outcome.has_value());
    EXPECT_THAT(outcome.error().message, HasSubstr("lost"));
  }
  EXPECT_EQ(engine->state().waiting, 0);
  own->lose_after(-1);  // as if it had come back, with what it held
  EXPECT_EQ(run(*engine, request(prompt(*engine, "something else"), 3)).outcome.tokens.size(), 3u);
}

}  // namespace
}  // namespace packmule::engine
