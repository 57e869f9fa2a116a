// What later requests need not process again: counted in tokens. And that it does not show in the answers.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "engine/engine_for_test.h"
#include "tests/support/golden.h"

namespace packmule::engine {
namespace {

/// Messages as ChatML has them.
class Chat {
 public:
  explicit Chat(const Engine& engine)
      : engine_(engine),
        start_(engine.tokenizer().find("<|im_start|>")),
        end_(prompt(engine, "<|im_end|>\n")) {}
  [[nodiscard]] Ids message(std::string_view role, const std::string& text) const {
    Ids ids = opening(role);
    append(ids, prompt(engine_, text));
    append(ids, end_);
    return ids;
  }
  [[nodiscard]] Ids opening(std::string_view role) const {
    Ids ids{start_};
    append(ids, prompt(engine_, std::string(role) + "\n"));
    return ids;
  }
  [[nodiscard]] const Ids& end() const { return end_; }
  static void append(Ids& to, const Ids& more) { to.insert(to.end(), more.begin(), more.end()); }

 private:
  const Engine& engine_;
  int32_t start_;
  Ids end_;
};

Ids joined(std::initializer_list<Ids> parts) {
  Ids all;
  for (const Ids& part : parts) Chat::append(all, part);
  return all;
}

std::unique_ptr<Engine> open_large(int64_t cache_ram = int64_t{64} << 20) {
  return open([&](EngineOptions& options) {
    options.ctx_size = 2048;
    options.ubatch_size = 128;
    options.cache_ram_bytes = cache_ram;
  });
}

/// Not greedy: a single bit of the logits may decide.
Request ask(Ids ids, int64_t max_tokens, uint32_t seed = 1) {
  Request what = request(std::move(ids), max_tokens);
  what.sampling.temperature = 1.0f;
  what.sampling.seed = seed;
  return what;
}

int64_t processed(const Reply& run) {
  return run.outcome.statistics.prompt_tokens - run.outcome.statistics.cached_tokens;
}

TEST(Reuse, ASecondIdenticalRequestProcessesNothing) {
  const auto engine = open_large();
  ASSERT_NE(engine, nullptr);
  const Chat chat(*engine);
  const Ids ids =
      joined({chat.message("system", "be short"), chat.message("user", "hello"), chat.opening("assistant")});
  const Reply first = run(*engine, ask(ids, 20));
  EXPECT_EQ(processed(first), std::ssize(ids));
  const Reply second = run(*engine, ask(ids, 20));
  EXPECT_LE(processed(second), 1);
  EXPECT_EQ(second.outcome.tokens, first.outcome.tokens);
  EXPECT_EQ(second.prompt_steps, (std::vector<int64_t>{std::ssize(ids)}));
  EXPECT_NE(run(*engine, ask(ids, 20, 2)).outcome.tokens, first.outcome.tokens) << "only the prompt is kept";
}

TEST(Reuse, ATurnOfAConversationProcessesWhatIsNew) {
  for (const bool as_written : {true, false}) {
    const auto engine = open_large();
    ASSERT_NE(engine, nullptr);
    const Chat chat(*engine);
    Ids history = joined({chat.message("system", "you may call tools: read_file, write_file, run_command"),
                          chat.message("user", "make the tests pass")});
    int64_t known = 0;
    for (int turn = 0; turn < 20; ++turn) {
      const Ids ids = joined({history, chat.opening("assistant")});
      const Reply answer = run(*engine, ask(ids, 12, static_cast<uint32_t>(turn)));
      EXPECT_LE(processed(answer), std::ssize(ids) - known) << "turn " << turn;
      // Of the answer its last token has been drawn, not processed. A template that writes a call in its own
      // way leaves nothing of the answer to go on from: then the end of the prompt is the last that is known.
      known = std::ssize(ids) + (as_written ? std::ssize(answer.outcome.tokens) - 1 : 0);
      history = ids;
      Chat::append(history,
                   as_written ? answer.outcome.tokens : prompt(*engine, "<tool_call> call </tool_call>"));
      Chat::append(history, chat.end());
      Chat::append(history, chat.message("tool", "result " + std::to_string(turn * 7919)));
    }
  }
}

// Templates that drop the thoughts of earlier turns change what stands behind the last user's message.
TEST(Reuse, AnOpeningThatIsNotRepeatedCostsOnlyItself) {
  const auto engine = open_large();
  ASSERT_NE(engine, nullptr);
  const Chat chat(*engine);
  Ids history = chat.message("user", "hello");
  const Reply first =
      run(*engine, ask(joined({history, chat.opening("assistant"), prompt(*engine, "<think>\n")}), 9));
  const int64_t known = std::ssize(history);
  const Ids ids = joined({history, chat.message("assistant", "without thoughts"),
                          chat.message("user", "more"), chat.opening("assistant")});
  EXPECT_EQ(run(*engine, ask(ids, 1)).outcome.statistics.cached_tokens, known);
}

TEST(Reuse, AgentsShareTheirSystemPrompt) {
  const auto engine = open_large();
  ASSERT_NE(engine, nullptr);
  const Chat chat(*engine);
  const Ids system = chat.message("system", std::string(500, 'x') + " tools of all agents");
  const auto first = joined({system, chat.message("user", "one"), chat.opening("assistant")});
  const auto second = joined({system, chat.message("user", "two, and another"), chat.opening("assistant")});
  EXPECT_EQ(run(*engine, ask(first, 5)).outcome.statistics.cached_tokens, 0);
  EXPECT_EQ(run(*engine, ask(second, 5)).outcome.statistics.cached_tokens, std::ssize(system));
  EXPECT_EQ(run(*engine, ask(first, 5)).outcome.statistics.cached_tokens, std::ssize(first));
}

TEST(Reuse, AnEditGoesOnFromTheBoundaryBeforeIt) {
  const auto engine = open_large();
  ASSERT_NE(engine, nullptr);
  const Chat chat(*engine);
  std::vector<Ids> messages;
  for (int i = 0; i < 12; ++i)
    messages.push_back(chat.message(i % 2 == 0 ? "user" : "assistant", "message " + std::to_string(i)));
  const auto all = [&] {
    Ids ids;
    for (const Ids& message : messages) Chat::append(ids, message);
    Chat::append(ids, chat.opening("assistant"));
    return ids;
  };
  run(*engine, ask(all(), 5));
  messages[7] = chat.message("assistant", "another message");
  int64_t before = 0;
  for (int i = 0; i < 7; ++i) before += std::ssize(messages[static_cast<size_t>(i)]);
  const Reply edited = run(*engine, ask(all(), 30));
  EXPECT_EQ(edited.outcome.statistics.cached_tokens, before);
  const auto fresh = open_large(0);
  EXPECT_EQ(edited.outcome.tokens, run(*fresh, ask(all(), 30)).outcome.tokens);
}

TEST(Reuse, WithoutACacheEverythingIsProcessed) {
  const auto engine = open_large(0);
  ASSERT_NE(engine, nullptr);
  const Ids ids = prompt(*engine, "hello");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(run(*engine, ask(ids, 5)).outcome.statistics.cached_tokens, 0);
}

// Random trees of conversations, in a cache that holds a few of them, against an engine that keeps nothing:
// the same bits, so the same tokens, at a temperature at which any difference would soon tell. Answers are
// written into the history in other words, so that whatever is gone on from was read in slices.
TEST(Reuse, RandomConversationsDoNotShow) {
  const auto plain = open_large(0);
  ASSERT_NE(plain, nullptr);
  const Chat chat(*plain);
  int64_t n_cached = 0, n_prompt = 0;
  for (const int64_t cache_ram : {int64_t{1} << 20, int64_t{64} << 20}) {
    std::mt19937 random(11);
    const auto below = [&](size_t n) { return random() % n; };
    const auto engine = open_large(cache_ram);
    std::vector<Ids> past{{}};
    for (int i = 0; i < 40; ++i) {
      Ids ids = past[below(past.size())];
      for (size_t n = 1 + below(3); n > 0; --n)
        Chat::append(ids, chat.message(below(2) ? "user" : "assistant",
                                       std::string(1 + below(120), static_cast<char>('a' + below(3)))));
      if (ids.size() > 900) continue;
      past.push_back(ids);
      // An opening that is no message's beginning: the end of a prompt is not gone on from, only ends of
      // messages.
      if (below(4) != 0) Chat::append(ids, chat.opening("model"));
      const Request what = ask(ids, 8, random());
      const Reply found = run(*engine, what);
      n_cached += found.outcome.statistics.cached_tokens;
      n_prompt += found.outcome.statistics.prompt_tokens;
      ASSERT_EQ(found.outcome.tokens, run(*plain, what).outcome.tokens) << i;
    }
  }
  EXPECT_GT(n_cached, n_prompt / 4);
}

/// The log probability of every token at every place of an answer.
std::vector<std::vector<float>> all_logprobs(Engine& engine, Request what) {
  const int64_t n_vocab = engine.model().hparams().n_vocab;
  what.n_logprobs = static_cast<int32_t>(n_vocab);
  std::vector<std::vector<float>> found;
  Callbacks callbacks;
  callbacks.on_piece = [&](const Piece& piece) {
    if (piece.token < 0) return;
    found.emplace_back(n_vocab);
    for (const TokenLogprob& one : piece.logprobs) found.back()[static_cast<size_t>(one.id)] = one.logprob;
  };
  EXPECT_TRUE(engine.generate(what, callbacks, {}).has_value());
  return found;
}

// From the end of an answer, which was read token by token, and from an opening, where no message ends,
// chunks begin elsewhere than without: the logits differ by rounding. Floats alone, F32 cache: a rounding is
// 6e-8 of a value, and some hundred follow each other; measured 1e-6.
TEST(Reuse, FromTheEndOfAnAnswerLogitsDifferByRounding) {
  const auto open_exact = [](int64_t cache_ram) {
    return open([&](EngineOptions& options) {
      const auto golden = testing_support::read_golden("tinyA");
      options.model_path = testing_support::golden_model(golden).value().string();
      options.k_type = options.v_type = quant::Type::kF32;
      options.ctx_size = 1024;
      options.ubatch_size = 128;
      options.cache_ram_bytes = cache_ram;
    });
  };
  const auto engine = open_exact(int64_t{64} << 20), fresh = open_exact(0);
  ASSERT_TRUE(engine != nullptr && fresh != nullptr);
  std::mt19937 random(3);
  const auto n_vocab = static_cast<uint32_t>(engine->model().hparams().n_vocab);
  Ids ids;
  int64_t known = 0;
  for (int turn = 0; turn < 6; ++turn) {
    for (int i = 0; i < 40; ++i) ids.push_back(static_cast<int32_t>(random() % n_vocab));
    const auto expected = all_logprobs(*fresh, request(ids, 20));
    const auto found = all_logprobs(*engine, request(ids, 20));
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_LE(testing_support::max_relative_l2(found[i], expected[i], n_vocab), 1e-5)
          << "turn " << turn << " token " << i;
    const Reply answer = run(*engine, request(ids, 20));
    EXPECT_EQ(processed(answer), 0);
    Chat::append(ids, answer.outcome.tokens);
    known = std::ssize(ids) - 1;
    Ids longer = ids;
    longer.push_back(1);
    EXPECT_EQ(run(*engine, request(longer, 0)).outcome.statistics.cached_tokens, known);
  }
}

/// Two that come at the same moment: whether the second comes while the first is being read, or after it, no
/// token is processed twice.
std::vector<Reply> at_once(Engine& engine, const std::vector<Request>& requests) {
  std::vector<Reply> replies(requests.size());
  std::vector<std::jthread> callers;
  for (size_t i = 0; i < requests.size(); ++i)
    callers.emplace_back([&, i] { replies[i] = run(engine, requests[i]); });
  callers.clear();
  return replies;
}

std::unique_ptr<Engine> open_wide() {
  return open([](EngineOptions& options) {
    options.ctx_size = 2048;
    options.ubatch_size = 64;
    options.n_parallel = 4;
    options.cache_ram_bytes = int64_t{64} << 20;
  });
}

Ids noise(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 200);
  return ids;
}

TEST(Reuse, IdenticalPromptsAtOnceAreReadOnce) {
  const auto engine = open_wide();
  ASSERT_NE(engine, nullptr);
  const Ids ids = noise(700, 1);
  const std::vector<Reply> replies = at_once(*engine, std::vector<Request>(6, ask(ids, 10)));
  int64_t n_processed = 0;
  for (const Reply& reply : replies) {
    n_processed += processed(reply);
    EXPECT_EQ(reply.outcome.tokens, replies[0].outcome.tokens);
  }
  EXPECT_EQ(n_processed, 700);
}

TEST(Reuse, PromptsWithACommonBeginningAtOnceReadItOnce) {
  const auto engine = open_wide();
  ASSERT_NE(engine, nullptr);
  const Ids system = noise(600, 1);
  std::vector<Request> requests;
  for (uint32_t i = 0; i < 5; ++i) {
    requests.push_back(ask(joined({system, noise(40 + i, 2 + i)}), 10));
    requests.back().boundaries = {600};
  }
  const std::vector<Reply> replies = at_once(*engine, requests);
  int64_t n_processed = 0;
  for (const Reply& reply : replies) n_processed += processed(reply);
  EXPECT_EQ(n_processed, 600 + 40 + 41 + 42 + 43 + 44);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = open_large(0);
    EXPECT_EQ(run(*alone, requests[i]).outcome.tokens, replies[i].outcome.tokens);
  }
}

TEST(Reuse, WhoWaitsForACancelledPromptGoesOnInItsPlace) {
  const auto engine = open_wide();
  ASSERT_NE(engine, nullptr);
  const Ids ids = noise(700, 1);
  std::stop_source stop;
  std::jthread second;
  Reply reply;
  Callbacks callbacks;
  callbacks.on_prompt = [&](int64_t done, const Statistics&) {
    // Behind the first of eleven slices another asks for the same, and the first leaves.
    if (done > 64) return;
    second = std::jthread([&] { reply = run(*engine, ask(ids, 10)); });
    while (engine->state().waiting == 0 && engine->state().totals.requests == 0 &&
           engine->state().slots[1].task < 0)
      std::this_thread::yield();
    stop.request_stop();
  };
  const auto outcome = engine->generate(ask(ids, 10), callbacks, stop.get_token());
  EXPECT_EQ(outcome->reason, FinishReason::kCancelled);
  second.join();
  EXPECT_EQ(reply.outcome.tokens, run(*open_large(0), ask(ids, 10)).outcome.tokens);
  EXPECT_GE(reply.outcome.statistics.cached_tokens, 64) << "what was read is kept";
}

}  // namespace
}  // namespace packmule::engine
