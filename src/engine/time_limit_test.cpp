// Requests whose time is up. Nothing here depends on how fast the machine is: what requests the end counts
// draws, or looks at what the engine is doing, on the scheduler's own thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <thread>

#include "engine/engine_for_test.h"
#include "engine/generation.h"

namespace packmule::engine {
namespace {

using std::chrono::milliseconds;

/// Allows everything, and tells of each draw before it is made.
class Watcher : public sampling::Constraint {
 public:
  Watcher(int64_t n_vocab, std::function<void(int n)> on_draw)
      : all_(static_cast<size_t>((n_vocab + 63) / 64), ~uint64_t{0}), on_draw_(std::move(on_draw)) {}
  Result<sampling::TokenMask> mask() override {
    on_draw_(++n_);
    return all_;
  }
  Status accept(int32_t) override { return {}; }
  bool may_end() const override { return false; }

 private:
  std::vector<uint64_t> all_;
  std::function<void(int n)> on_draw_;
  int n_ = 0;
};

Request watched(const Engine& engine, Ids ids, int64_t max_tokens, std::function<void(int n)> on_draw) {
  Request what = request(std::move(ids), max_tokens);
  what.constraint = [n_vocab = engine.model().hparams().n_vocab, on_draw = std::move(on_draw)] {
    return std::make_unique<Watcher>(n_vocab, on_draw);
  };
  return what;
}

TEST(TimeLimit, AnAnswerEndsBetweenTwoSteps) {
  // Without a cache, as a prompt that is there already is drawn from in the step's stead.
  const auto engine = open([](EngineOptions& options) { options.cache_ram_bytes = 0; });
  ASSERT_NE(engine, nullptr);
  const Ids ids = prompt(*engine, kText);
  const Ids expected = run(*engine, request(ids, 20)).outcome.tokens;
  for (const int after : {1, 2, 7}) {
    std::stop_source time_up;
    Request what = watched(*engine, ids, 20, [&](int n) {
      if (n == after) time_up.request_stop();
    });
    what.time_up = time_up.get_token();
    const Reply got = run(*engine, what);
    EXPECT_EQ(got.outcome.reason, FinishReason::kTimeLimit);
    EXPECT_EQ(got.outcome.tokens, Ids(expected.begin(), expected.begin() + after));
    EXPECT_EQ(got.outcome.statistics.generated_tokens, after);
  }
}

// It ends as at its length limit: nobody waits any more for what might have become a stop string.
TEST(TimeLimit, TextThatWasHeldBackIsHandedOver) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  const Ids ids = prompt(*engine, kText);
  constexpr int kTokens = 6;
  const std::string text = run(*engine, request(ids, kTokens)).outcome.text;
  std::stop_source time_up;
  Request what = watched(*engine, ids, 20, [&](int n) {
    if (n == kTokens) time_up.request_stop();
  });
  what.time_up = time_up.get_token();
  what.stop = {text + "\x01"};
  const Reply got = run(*engine, what);
  EXPECT_EQ(got.outcome.reason, FinishReason::kTimeLimit);
  EXPECT_EQ(got.outcome.text, text);
}

TEST(TimeLimit, NothingIsComputedForOneThatComesTooLate) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  std::stop_source time_up;
  time_up.request_stop();
  Request what = request(prompt(*engine, kText), 20);
  what.time_up = time_up.get_token();
  const Reply got = run(*engine, what);
  EXPECT_EQ(got.outcome.reason, FinishReason::kTimeLimit);
  EXPECT_TRUE(got.outcome.tokens.empty());
  EXPECT_TRUE(got.prompt_steps.empty());
  EXPECT_EQ(engine->state().totals.steps, 0);
}

// While a prompt is read beside an answer; and what was read is not lost.
TEST(TimeLimit, APromptEndsWhereItIs) {
  const auto engine = open([](EngineOptions& options) {
    options.n_parallel = 2;
    options.ctx_size = 512;
    options.prompt_chunk = 16;
  });
  ASSERT_NE(engine, nullptr);
  Ids many = prompt(*engine, kText);
  many.resize(200, 11);
  std::stop_source time_up, answer_stops;
  std::optional<Outcome> read;
  std::jthread reader;
  const auto submit = [&] {
    Request what = request(many, 20);
    what.time_up = time_up.get_token();
    auto outcome = engine->generate(what, {}, {});
    if (outcome) read = std::move(*outcome);
    answer_stops.request_stop();
  };
  const Request answer = watched(*engine, prompt(*engine, "x"), -1, [&](int n) {
    if (n == 1) {
      reader = std::jthread(submit);
      while (engine->state().waiting == 0) std::this_thread::yield();
    }
    const State state = engine->state();
    if (std::any_of(state.slots.begin(), state.slots.end(),
                    [](const SlotState& s) { return s.busy && !s.decoding && s.processed_tokens >= 32; }))
      time_up.request_stop();
  });
  ASSERT_TRUE(engine->generate(answer, {}, answer_stops.get_token()).has_value());
  reader.join();
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->reason, FinishReason::kTimeLimit);
  EXPECT_TRUE(read->tokens.empty());
  const Statistics again = run(*engine, request(many, 1)).outcome.statistics;
  EXPECT_GE(again.cached_tokens, 32);
  EXPECT_LT(again.cached_tokens, 200);
}

// What a forward pass that is a prompt's alone looks at, so that it does not even wait for the end of its
// step.
TEST(TimeLimit, StopsAStepThatIsItsOwn) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  std::stop_source time_up;
  Request what = request(prompt(*engine, kText), 20);
  what.time_up = time_up.get_token();
  const Vocabulary vocabulary{.tokenizer = &engine->tokenizer(),
                              .n_vocab = engine->model().hparams().n_vocab};
  const Generation generation(std::move(what), vocabulary, 256, {});
  EXPECT_FALSE(generation.stop_token().stop_requested());
  EXPECT_EQ(generation.ended_from_outside(), std::nullopt);
  time_up.request_stop();
  EXPECT_TRUE(generation.stop_token().stop_requested());
  EXPECT_EQ(generation.ended_from_outside(), FinishReason::kTimeLimit);
}

/// A generation that is fed the logits that draw what the test wants, under a clock that the test moves.
class PredictTime : public testing::Test {
 protected:
  void SetUp() override {
    engine_ = open();
    ASSERT_NE(engine_, nullptr);
    vocabulary_ = {.tokenizer = &engine_->tokenizer(), .n_vocab = engine_->model().hparams().n_vocab};
    line_break_ = prompt(*engine_, "\n").front();
    letter_ = prompt(*engine_, "a").front();
  }
  std::unique_ptr<Generation> start(milliseconds limit) {
    Request what = request(prompt(*engine_, "x"), 100);
    what.max_predict_time = limit;
    auto generation = std::make_unique<Generation>(std::move(what), vocabulary_, 256, std::stop_token(),
                                                   [this] { return now_; });
    generation->begin(0);
    now_ += std::chrono::hours(1);  // the prompt does not count
    generation->prompt_progress(1);
    return generation;
  }
  [[nodiscard]] bool draws(Generation& generation, int32_t token) const {
    std::vector<float> logits(static_cast<size_t>(vocabulary_.n_vocab), 0.0f);
    logits[static_cast<size_t>(token)] = 10;
    const bool ended = generation.next(logits);
    EXPECT_EQ(generation.tokens().back(), token);
    return ended;
  }

  std::unique_ptr<Engine> engine_;
  Vocabulary vocabulary_;
  int32_t line_break_ = 0, letter_ = 0;
  Generation::Clock::time_point now_;
};

TEST_F(PredictTime, EndsBehindALineBreakWhenItIsOver) {
  const auto generation = start(milliseconds(100));
  EXPECT_FALSE(draws(*generation, letter_));  // the time begins here
  now_ += milliseconds(100);
  EXPECT_FALSE(draws(*generation, line_break_)) << "not over yet";
  now_ += milliseconds(1);
  EXPECT_FALSE(draws(*generation, letter_)) << "in the middle of a line";
  EXPECT_TRUE(draws(*generation, line_break_));
  generation->close();
  const auto outcome = generation->delivery().run({}, {}, {});
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->reason, FinishReason::kTimeLimit);
  EXPECT_EQ(outcome->text, "a\na\n");
}

TEST_F(PredictTime, ZeroIsNoLimit) {
  const auto generation = start(milliseconds(0));
  for (int i = 0; i < 5; ++i) {
    now_ += std::chrono::hours(1);
    EXPECT_FALSE(draws(*generation, line_break_));
  }
}

}  // namespace
}  // namespace packmule::engine
