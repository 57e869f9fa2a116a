// Requests beside each other: none shows in another's tokens, none waits for another's caller, and memory
// that is too small for all delays some of them but hurts none.
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <random>
#include <thread>

#include "engine/engine_for_test.h"

namespace packmule::engine {
namespace {

Ids noise(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 200);
  return ids;
}

/// Prompts of all lengths, answers of all lengths, drawn with a seed.
std::vector<Request> mixed_requests(int n, int64_t longest_prompt, int64_t longest_answer) {
  std::mt19937 random(7);
  std::vector<Request> requests;
  for (int i = 0; i < n; ++i) {
    Request what =
        request(noise(1 + static_cast<int64_t>(random() % static_cast<uint64_t>(longest_prompt)), random()),
                1 + static_cast<int64_t>(random() % static_cast<uint64_t>(longest_answer)));
    what.sampling.temperature = 1.0f;
    what.sampling.seed = random();
    if (what.prompt.size() > 30) what.boundaries = {10, 11, 25};
    requests.push_back(std::move(what));
  }
  return requests;
}

std::vector<Ids> one_after_the_other(const std::vector<Request>& requests) {
  const auto engine = open([](EngineOptions& options) { options.cache_ram_bytes = 0; });
  std::vector<Ids> tokens;
  for (const Request& what : requests) tokens.push_back(run(*engine, what).outcome.tokens);
  return tokens;
}

std::vector<Ids> together(Engine& engine, const std::vector<Request>& requests) {
  std::vector<Ids> tokens(requests.size());
  std::vector<std::jthread> callers;
  for (size_t i = 0; i < requests.size(); ++i)
    callers.emplace_back([&, i] {
      const auto outcome = engine.generate(requests[i], {}, {});
      EXPECT_TRUE(outcome.has_value()) << outcome.error().message;
      if (outcome) tokens[i] = outcome->tokens;
    });
  callers.clear();
  return tokens;
}

TEST(Scheduler, CompanyDoesNotShow) {
  const std::vector<Request> requests = mixed_requests(12, 120, 40);
  const std::vector<Ids> expected = one_after_the_other(requests);
  for (const int64_t cache_ram : {int64_t{0}, int64_t{64} << 20})
    for (const int n_parallel : {2, 4, 12}) {
      const auto engine = open([&](EngineOptions& options) {
        options.n_parallel = n_parallel;
        options.cache_ram_bytes = cache_ram;
        options.ctx_size = 2048;
        options.n_threads = 2;
        options.ubatch_size = n_parallel == 4 ? 128 : 16;
        options.prompt_chunk = 16;
      });
      ASSERT_NE(engine, nullptr);
      // A ubatch of 128 has chunks of 64, one of 16 has none: another rhythm, other roundings.
      const std::vector<Ids> wanted = n_parallel == 4 ? [&] {
        const auto alone = open([](EngineOptions& options) {
          options.cache_ram_bytes = 0;
          options.ubatch_size = 128;
        });
        std::vector<Ids> tokens;
        for (const Request& what : requests) tokens.push_back(run(*alone, what).outcome.tokens);
        return tokens;
      }() : expected;
      for (int round = 0; round < 2; ++round) EXPECT_EQ(together(*engine, requests), wanted) << n_parallel;
    }
}

TEST(Scheduler, AFullPoolDelaysButHurtsNobody) {
  const std::vector<Request> requests = mixed_requests(8, 100, 150);
  const std::vector<Ids> expected = one_after_the_other(requests);
  for (const int64_t cache_ram : {int64_t{0}, int64_t{1} << 20}) {
    const auto engine = open([&](EngineOptions& options) {
      options.n_parallel = 6;
      options.cache_ram_bytes = cache_ram;
      options.ctx_size = 256;  // four pages, and two or three are needed by each
    });
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(together(*engine, requests), expected);
    const State state = engine->state();
    EXPECT_EQ(state.totals.requests, 8);
    EXPECT_EQ(state.waiting, 0);
    if (cache_ram == 0) {
      EXPECT_EQ(state.kv_pages, 4);
      EXPECT_EQ(state.kv_pages_used, 0);
    }
  }
}

TEST(Scheduler, ALongPromptComesInChunksWhileOthersDecode) {
  const auto engine = open([](EngineOptions& options) {
    options.n_parallel = 2;
    options.ctx_size = 2048;
    options.ubatch_size = 256;
    options.prompt_chunk = 64;
    options.cache_ram_bytes = 0;
  });
  ASSERT_NE(engine, nullptr);
  const Request long_prompt = request(noise(640, 1), 3);
  EXPECT_EQ(run(*engine, long_prompt).prompt_steps, (std::vector<int64_t>{256, 512, 640}));

  Reply beside;
  std::jthread other;
  std::atomic<bool> done = false;
  std::stop_source stop;
  int n = 0, n_meanwhile = 0;
  Callbacks callbacks;
  callbacks.on_piece = [&](const Piece&) {
    if (++n == 3)
      other = std::jthread([&] {
        beside = run(*engine, long_prompt);
        done = true;
        stop.request_stop();
      });
    n_meanwhile += n > 3 && !done ? 1 : 0;
  };
  const auto outcome = engine->generate(request(noise(5, 2), 1900), callbacks, stop.get_token());
  ASSERT_TRUE(outcome.has_value());
  other.join();
  EXPECT_EQ(outcome->reason, FinishReason::kCancelled) << "it was to run longer than the other";
  ASSERT_EQ(beside.prompt_steps.size(), 10u);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(beside.prompt_steps[i], static_cast<int64_t>(i + 1) * 64);
  EXPECT_GE(engine->state().totals.steps, 3 + 10 + 3);
}

TEST(Scheduler, ASlowCallerKeepsNobodyWaiting) {
  const auto engine = open([](EngineOptions& options) { options.n_parallel = 2; });
  ASSERT_NE(engine, nullptr);
  const Ids expected = run(*engine, request(noise(9, 3), 50)).outcome.tokens;
  std::jthread other;
  Ids found;
  Callbacks callbacks;
  int n = 0;
  callbacks.on_piece = [&](const Piece&) {
    if (++n != 2) return;
    // Inside the callback another request runs from begin to end.
    other = std::jthread([&] { found = run(*engine, request(noise(9, 3), 50)).outcome.tokens; });
    other.join();
  };
  const auto outcome = engine->generate(request(noise(20, 4), 100), callbacks, {});
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->tokens.size(), 100u);
  EXPECT_EQ(found, expected);
}

// Requests that are cancelled at any time, in the queue, in their prompt, in their answer, leave those of
// others as they are.
TEST(Scheduler, CancelledRequestsHurtNobody) {
  const std::vector<Request> requests = mixed_requests(6, 100, 40);
  const std::vector<Ids> expected = one_after_the_other(requests);
  const auto engine = open([](EngineOptions& options) {
    options.n_parallel = 3;
    options.ctx_size = 512;
    options.cache_ram_bytes = 1 << 20;
  });
  ASSERT_NE(engine, nullptr);
  std::atomic<bool> over = false;
  std::vector<std::jthread> noisy;
  for (uint32_t i = 0; i < 3; ++i)
    noisy.emplace_back([&, i] {
      std::mt19937 random(i);
      while (!over) {
        std::stop_source stop;
        std::jthread stopper([&, wait = random() % 3000] {
          std::this_thread::sleep_for(std::chrono::microseconds(wait));
          stop.request_stop();
        });
        const auto outcome = engine->generate(request(noise(200, random() % 3), 100), {}, stop.get_token());
        EXPECT_TRUE(outcome.has_value());
      }
    });
  for (int round = 0; round < 3; ++round) EXPECT_EQ(together(*engine, requests), expected);
  over = true;
  noisy.clear();
  // The engine comes to rest.
  EXPECT_EQ(run(*engine, requests[0]).outcome.tokens, expected[0]);
  const State state = engine->state();
  EXPECT_EQ(state.waiting, 0);
  for (const SlotState& slot : state.slots) EXPECT_FALSE(slot.busy);
}

TEST(Scheduler, AnEngineThatEndsEndsWhatRuns) {
  auto engine = open([](EngineOptions& options) { options.n_parallel = 2; });
  ASSERT_NE(engine, nullptr);
  std::stop_source stop;
  Callbacks callbacks;
  callbacks.on_piece = [&](const Piece&) { stop.request_stop(); };
  const auto outcome = engine->generate(request(noise(9, 3), 200), callbacks, stop.get_token());
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->reason, FinishReason::kCancelled);
  EXPECT_EQ(outcome->tokens.size(), 1u);
  engine.reset();  // most likely while the scheduler is at the next token
}

}  // namespace
}  // namespace packmule::engine
