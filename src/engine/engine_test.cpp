#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <thread>

#include "engine/engine_for_test.h"
#include "tests/support/test_data.h"

namespace packmule::engine {
namespace {

using testing::HasSubstr;

TEST(Engine, TellsWhatItOpened) {
  std::vector<double> steps;
  EngineOptions options;
  options.model_path = small_model();
  options.ctx_size = int64_t{1} << 40;
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine.has_value()) << engine.error().message;
  EXPECT_EQ((*engine)->options().ctx_size, (*engine)->model().hparams().context_length) << "not more";
  options.ctx_size = 100;
  engine = Engine::open(options, [&](double fraction) { steps.push_back(fraction); });
  ASSERT_TRUE(engine.has_value()) << engine.error().message;
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.back(), 1.0);
  EXPECT_EQ((*engine)->options().ctx_size, 100);
  EXPECT_EQ((*engine)->options().ubatch_size, 100) << "not more than the context";
  EXPECT_GE((*engine)->options().n_threads, 1);
  EXPECT_FALSE((*engine)->model_name().empty());
  EXPECT_THAT(std::string((*engine)->chat_template()), HasSubstr("message"));
  EXPECT_EQ((*engine)->default_sampling().top_k, 20);
}

TEST(Engine, RefusesWhatCannotBeOpened) {
  const auto refusal = [](auto&& change) {
    EngineOptions options;
    options.model_path = small_model();
    change(options);
    auto engine = Engine::open(options);
    return engine ? "" : engine.error().message;
  };
  EXPECT_THAT(refusal([](EngineOptions& o) { o.model_path = "/nonexistent.gguf"; }),
              HasSubstr("nonexistent"));
  EXPECT_THAT(refusal([](EngineOptions& o) { o.n_threads = -1; }), HasSubstr("--threads"));
  EXPECT_THAT(refusal([](EngineOptions& o) { o.ctx_size = -1; }), HasSubstr("--ctx-size"));
  EXPECT_THAT(refusal([](EngineOptions& o) { o.ubatch_size = -1; }), HasSubstr("--ubatch-size"));
  EXPECT_THAT(refusal([](EngineOptions& o) { o.n_parallel = 0; }), HasSubstr("--parallel"));
  EXPECT_THAT(refusal([](EngineOptions& o) { o.n_parallel = 65; }), HasSubstr("--parallel"));
  EXPECT_THAT(refusal([](EngineOptions& o) { o.cache_ram_bytes = -1; }), HasSubstr("--cache-ram"));
}

TEST(Options, TheUbatchIsWhatIsAskedForOrWhatMemoryAllows) {
  const gguf::File file = gguf::File::open(small_model()).value();
  model::ModelOptions model_options{.logit_rows = 1};
  const auto activations = [&](int64_t ubatch) {
    model_options.ubatch_size = ubatch;
    return model::Model::sizes(file, model_options, 2).value().activation_bytes;
  };
  EngineOptions options;
  const auto chosen = [&](int64_t available_bytes) {
    return ubatch_for(options, file, model_options, 2, available_bytes).value();
  };
  EXPECT_EQ(chosen(INT64_MAX), 2048);
  EXPECT_EQ(chosen(8 * activations(2048)), 2048);
  EXPECT_EQ(chosen(8 * activations(2048) - 8), 1024);
  EXPECT_EQ(chosen(8 * activations(256)), 256);
  EXPECT_EQ(chosen(0), 32);
  options.ubatch_size = 777;
  EXPECT_EQ(chosen(0), 777);
}

TEST(Options, TheCacheTakesAShareOfWhatIsFree) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  EngineOptions options;
  EXPECT_EQ(cache_ram_for(options, 46 * kGiB, 64 * kGiB), 18 * kGiB / 4);
  EXPECT_EQ(cache_ram_for(options, 46 * kGiB, 256 * kGiB), 8 * kGiB);
  EXPECT_EQ(cache_ram_for(options, 46 * kGiB, 32 * kGiB), kGiB);
  EXPECT_EQ(cache_ram_for(options, 46 * kGiB, 2 * kGiB), kGiB / 2);
  options.cache_ram_bytes = 0;
  EXPECT_EQ(cache_ram_for(options, 0, 64 * kGiB), 0);
}

TEST(Engine, SameSeedSameTextForAnyNumberOfThreads) {
  std::optional<Outcome> first;
  for (const int n_threads : {1, 2, 2}) {
    const auto engine = open([&](EngineOptions& options) { options.n_threads = n_threads; });
    ASSERT_NE(engine, nullptr);
    Request what = request(prompt(*engine, kText), 60);
    what.sampling.temperature = 1.0f;
    what.sampling.seed = 1234;
    const Outcome outcome = run(*engine, what).outcome;
    EXPECT_EQ(outcome.tokens.size(), 60u);
    EXPECT_EQ(outcome.reason, FinishReason::kLength);
    EXPECT_EQ(outcome.seed, 1234u);
    EXPECT_EQ(outcome.statistics.generated_tokens, 60);
    if (!first) first = outcome;
    EXPECT_EQ(outcome.tokens, first->tokens) << n_threads << " threads";
    EXPECT_EQ(outcome.text, first->text);
    what.sampling.seed = 1235;
    EXPECT_NE(run(*engine, what).outcome.tokens, first->tokens);
  }
}

TEST(Engine, ShowsThePromptUbatchByUbatch) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  Ids ids = prompt(*engine, kText);
  ids.resize(37, 5);
  const Reply got = run(*engine, request(ids, 1));
  EXPECT_EQ(got.prompt_steps, (std::vector<int64_t>{16, 32, 37}));
  EXPECT_EQ(got.outcome.statistics.prompt_tokens, 37);
  EXPECT_EQ(got.outcome.statistics.cached_tokens, 0);
  EXPECT_GT(got.outcome.statistics.prompt_per_second(), 0);
  const Reply none = run(*engine, request(ids, 0));
  EXPECT_TRUE(none.outcome.tokens.empty());
  EXPECT_EQ(none.outcome.reason, FinishReason::kLength);
}

TEST(Engine, GoesOnFromWhatItHolds) {
  const auto engine = open();
  const auto fresh = open();
  ASSERT_TRUE(engine != nullptr && fresh != nullptr);
  const Ids start = prompt(*engine, kText);
  const Ids answer = run(*engine, request(start, 12)).outcome.tokens;
  ASSERT_EQ(answer.size(), 12u);

  Ids longer = start;
  longer.insert(longer.end(), answer.begin(), answer.end());
  const Ids more = prompt(*engine, "<|im_end|>\n<|im_start|>user\nand then?");
  longer.insert(longer.end(), more.begin(), more.end());
  const Reply reused = run(*engine, request(longer, 24));
  // The last token of an answer has been drawn, not processed.
  EXPECT_EQ(reused.outcome.statistics.cached_tokens, static_cast<int64_t>(start.size() + 11));
  EXPECT_EQ(reused.prompt_steps.back(), static_cast<int64_t>(longer.size()));
  EXPECT_EQ(reused.outcome.tokens, run(*fresh, request(longer, 24)).outcome.tokens);

  // A prompt that differs anywhere cannot go on: the state has no way back. One that was read before is not
  // read again.
  for (int variant = 0; variant < 3; ++variant) {
    Ids other = longer;
    if (variant == 0) other[3] = other[3] == 7 ? 8 : 7;
    if (variant == 1) other.resize(start.size());
    (void)run(*engine, request(longer, 1));
    const Reply again = run(*engine, request(other, 24));
    EXPECT_EQ(again.outcome.statistics.cached_tokens, variant == 0 ? 0 : std::ssize(other)) << variant;
    const auto anew = open();
    EXPECT_EQ(again.outcome.tokens, run(*anew, request(other, 24)).outcome.tokens) << variant;
  }
}

TEST(Engine, StopStringsEverywhere) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  const Ids ids = prompt(*engine, kText);
  const std::string whole = run(*engine, request(ids, 20)).outcome.text;
  ASSERT_GT(whole.size(), 20u);
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const size_t size : {1, 5, 11}) {
      const std::string stop = whole.substr(at, size);
      if (find_invalid_utf8(stop) != stop.size()) continue;  // cut inside a character
      Request what = request(ids, 20);
      what.stop = {"never in this text", stop};
      const Reply got = run(*engine, what);
      EXPECT_EQ(got.outcome.text, whole.substr(0, whole.find(stop))) << "stop " << stop;
      EXPECT_EQ(got.outcome.reason, FinishReason::kStopString);
      EXPECT_EQ(got.outcome.stop_string, stop);
    }
  }
  // One that begins and does not come: its beginning is given back at the end.
  Request what = request(ids, 20);
  size_t last = whole.size() - 1;
  while ((static_cast<uint8_t>(whole[last]) & 0xC0) == 0x80) --last;  // the first byte of a character
  what.stop = {whole.substr(last) + "and no more"};
  const Reply got = run(*engine, what);
  EXPECT_EQ(got.outcome.text, whole);
  EXPECT_EQ(got.outcome.reason, FinishReason::kLength);
}

TEST(Engine, StopsWhenAsked) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  const Ids ids = prompt(*engine, kText);
  const Ids expected = run(*engine, request(ids, 20)).outcome.tokens;

  for (const int after : {1, 3}) {
    std::stop_source stop;
    Callbacks callbacks;
    int n = 0;
    callbacks.on_piece = [&](const Piece& piece) {
      if (piece.token >= 0 && ++n == after) stop.request_stop();
    };
    auto outcome = engine->generate(request(ids, 20), callbacks, stop.get_token());
    ASSERT_TRUE(outcome.has_value());
    EXPECT_EQ(outcome->reason, FinishReason::kCancelled);
    EXPECT_EQ(outcome->tokens, Ids(expected.begin(), expected.begin() + after));
  }

  std::stop_source stop;
  Callbacks callbacks;
  int steps = 0;
  callbacks.on_prompt = [&](int64_t, const Statistics&) {
    ++steps;
    stop.request_stop();
  };
  Ids many = ids;
  many.resize(100, 11);
  auto outcome = engine->generate(request(many, 20), callbacks, stop.get_token());
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->reason, FinishReason::kCancelled);
  EXPECT_TRUE(outcome->tokens.empty());
  EXPECT_EQ(steps, 1);
  // What was cut short does no harm to what comes after, and what was processed is not lost.
  const Reply whole = run(*engine, request(many, 5));
  EXPECT_GT(whole.outcome.statistics.cached_tokens, static_cast<int64_t>(ids.size()));
  EXPECT_EQ(run(*engine, request(ids, 20)).outcome.tokens, expected);
}

// Wherever in the second ubatch of a prompt the stop comes, the same prompt is then read as if nothing had
// been.
TEST(Engine, StopsInsideAPrompt) {
  const auto engine = open([](EngineOptions& options) { options.ubatch_size = 64; });
  ASSERT_NE(engine, nullptr);
  Ids ids = prompt(*engine, kText);
  ids.resize(200, 11);
  const Ids expected = run(*engine, request(ids, 5)).outcome.tokens;
  for (int i = 0; i < 30; ++i) {
    std::stop_source stop;
    std::jthread stopper;
    Callbacks callbacks;
    callbacks.on_prompt = [&](int64_t done, const Statistics&) {
      if (done != 64) return;
      stopper = std::jthread([&stop, i] {
        std::this_thread::sleep_for(std::chrono::microseconds(50 * i));
        stop.request_stop();
      });
    };
    const auto outcome = engine->generate(request(ids, 1), callbacks, stop.get_token());
    ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
    ASSERT_EQ(run(*engine, request(ids, 5)).outcome.tokens, expected) << i;
  }
}

TEST(Engine, EndsWhenTheContextIsFull) {
  const auto engine = open([](EngineOptions& options) { options.ctx_size = 64; });
  ASSERT_NE(engine, nullptr);
  Ids ids = prompt(*engine, kText);
  ids.resize(50, 11);
  const Reply got = run(*engine, request(ids, -1));
  EXPECT_EQ(got.outcome.reason, FinishReason::kContextFull);
  EXPECT_EQ(got.outcome.tokens.size(), 15u);  // 14 that are kept, and the one that has no room
}

TEST(Engine, RefusesWhatDoesNotFit) {
  const auto engine = open([](EngineOptions& options) { options.ctx_size = 64; });
  ASSERT_NE(engine, nullptr);
  const auto refusal = [&](const Request& what) {
    auto outcome = engine->generate(what, {}, {});
    return outcome ? "" : outcome.error().message;
  };
  EXPECT_EQ(refusal(request(Ids(63, 5), 1)), "");
  EXPECT_THAT(refusal(request(Ids(64, 5), 1)),
              HasSubstr("has 64 tokens, the context of 64 leaves room for 63: 1"));
  EXPECT_THAT(refusal(request(Ids(100, 5), 1)), HasSubstr("37 too many"));
  EXPECT_THAT(refusal(request({}, 1)), HasSubstr("empty"));
  EXPECT_THAT(refusal(request({5, -1}, 1)), HasSubstr("prompt token 1 is -1"));
  EXPECT_THAT(refusal(request({1 << 30}, 1)), HasSubstr("prompt token 0"));
  Request bad = request({5}, 1);
  bad.stop = {"ok", "\xC3"};
  EXPECT_THAT(refusal(bad), HasSubstr("stop string"));
  bad = request(Ids(10, 5), 1);
  for (const std::vector<int64_t>& boundaries : {std::vector<int64_t>{0}, {3, 3}, {4, 2}, {11}, {-1}}) {
    bad.boundaries = boundaries;
    EXPECT_THAT(refusal(bad), HasSubstr("message boundaries"));
  }
  bad = request({5}, 1);
  bad.sampling.top_p = 2;
  EXPECT_THAT(refusal(bad), HasSubstr("--top-p"));
}

TEST(Engine, TellsWhatItIsDoing) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  State state = engine->state();
  ASSERT_FALSE(state.slots.empty());
  EXPECT_EQ(state.slots[0].task, -1);
  EXPECT_FALSE(state.slots[0].busy);
  EXPECT_EQ(state.context_tokens, 256);
  EXPECT_GE(state.kv_pages * state.kv_page_tokens, 256);
  EXPECT_EQ(state.kv_pages_used, 0);
  EXPECT_EQ(state.checkpoints, 0);
  EXPECT_GT(state.checkpoint_budget_bytes, 0);
  EXPECT_GT(state.recurrent_bytes, 0);
  std::optional<State> during;
  Callbacks callbacks;
  int n = 0;  // the figures follow the pieces by a step
  callbacks.on_piece = [&](const Piece&) {
    if (++n == 3) during = engine->state();
  };
  ASSERT_TRUE(engine->generate(request(Ids(70, 5), 100), callbacks, {}).has_value());
  ASSERT_TRUE(during.has_value());
  EXPECT_EQ(during->slots[0].task, 0);
  EXPECT_EQ(during->slots[0].prompt_tokens, 70);
  EXPECT_EQ(during->slots[0].processed_tokens, 70);
  EXPECT_GE(during->slots[0].held_tokens, 70);
  EXPECT_GE(during->slots[0].generated_tokens, 1);
  EXPECT_GE(during->kv_pages_used, 2);
  state = engine->state();
  EXPECT_FALSE(state.slots[0].busy);
  EXPECT_EQ(state.totals.requests, 1);
  EXPECT_EQ(state.totals.prompt_tokens, 70);
  EXPECT_EQ(state.totals.generated_tokens, 100);
  EXPECT_GE(state.totals.steps, 100);
  EXPECT_GT(state.totals.generate_seconds, 0);
  EXPECT_EQ(state.checkpoints, 2) << "the end of the prompt, the end of the answer";
  EXPECT_GT(state.checkpoint_bytes, 0);
}

TEST(Engine, EndsTheTurn) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  const int32_t end = engine->tokenizer().find("<|im_end|>");
  ASSERT_GE(end, 0);
  Request what = request(prompt(*engine, kText), 20);
  what.sampling.logit_bias = {{end, 1000.0f}};
  what.ignore_eos = false;
  const Reply got = run(*engine, what);
  EXPECT_EQ(got.outcome.reason, FinishReason::kEndOfTurn);
  EXPECT_TRUE(got.outcome.tokens.empty());
  EXPECT_EQ(got.outcome.statistics.generated_tokens, 1);
  what.ignore_eos = true;
  EXPECT_EQ(run(*engine, what).outcome.tokens.size(), 20u);
}

TEST(Engine, ControlTokensHaveNoText) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  const int32_t start = engine->tokenizer().find("<|im_start|>");
  const int32_t think = engine->tokenizer().find("<think>");
  Request what = request(prompt(*engine, kText), 2);
  what.sampling.logit_bias = {{start, 1000.0f}};
  const Reply got = run(*engine, what);
  EXPECT_EQ(got.outcome.tokens, (Ids{start, start}));
  EXPECT_EQ(got.outcome.text, "");
  what.sampling.logit_bias = {{think, 1000.0f}};
  EXPECT_EQ(run(*engine, what).outcome.text, "<think><think>");
}

/// The small model with those of its added tokens that end no turn declared to be padding.
std::string model_with_padding(std::set<int32_t>& padding) {
  std::string bytes = testing_support::read_file(small_model());
  const std::string key = "tokenizer.ggml.token_type";
  const size_t at = bytes.find(key);
  EXPECT_NE(at, std::string::npos);
  const size_t values = at + key.size() + 16;  // type, element type, count
  uint64_t n = 0;
  std::memcpy(&n, bytes.data() + values - 8, 8);
  const auto engine = open();
  for (uint64_t i = 0; i < n; ++i) {
    const auto id = static_cast<int32_t>(i);
    int32_t kind = 0;
    std::memcpy(&kind, bytes.data() + values + 4 * i, 4);
    if (kind == 1 || engine->tokenizer().is_end_of_generation(id)) continue;
    kind = 5;
    std::memcpy(bytes.data() + values + 4 * i, &kind, 4);
    padding.insert(id);
  }
  const auto path = testing_support::generated_dir() / "engine_test_padding.gguf";
  std::ofstream(path, std::ios::binary) << bytes;
  return path.string();
}

TEST(Engine, NeverGeneratesPadding) {
  std::set<int32_t> padding;
  const std::string path = model_with_padding(padding);
  ASSERT_GE(padding.size(), 5u);
  const auto engine = open([&](EngineOptions& options) {
    options.model_path = path;
    options.ctx_size = 512;
  });
  ASSERT_NE(engine, nullptr);
  Request what = request(prompt(*engine, kText), 300);
  what.sampling.temperature = 5.0f;
  what.sampling.top_k = 0;
  what.sampling.top_p = 1.0f;
  what.sampling.min_p = 0.0f;
  what.sampling.seed = 3;
  // Even when they are asked for: without the mask every single draw would be one of them.
  for (const int32_t id : padding) what.sampling.logit_bias.emplace_back(id, 1000.0f);
  const Reply got = run(*engine, what);
  ASSERT_EQ(got.outcome.tokens.size(), 300u);
  for (const int32_t token : got.outcome.tokens) EXPECT_FALSE(padding.contains(token)) << token;
}

TEST(Engine, TellsLogProbabilities) {
  const auto engine = open();
  Request what = request(prompt(*engine, kText), 12);
  what.sampling.logit_bias = {{65, 1000.0f}};  // the samplers' doings are no matter
  const auto of = [&](int32_t n) {
    what.n_logprobs = n;
    std::vector<std::vector<TokenLogprob> > found;
    const auto outcome =
        engine->generate(what,
                         {.on_piece =
                              [&](const Piece& piece) {
                                if (piece.token >= 0 && n >= 0) {
                                  EXPECT_FALSE(piece.logprobs.empty());
                                  EXPECT_EQ(piece.logprobs[0].id, piece.token);
                                }
                                found.emplace_back(piece.logprobs.begin(), piece.logprobs.end());
                              }},
                         {});
    EXPECT_TRUE(outcome.has_value());
    return found;
  };
  for (const auto& none : of(-1)) EXPECT_TRUE(none.empty());
  const auto alone = of(0);
  const auto three = of(3);
  const auto all = of(static_cast<int32_t>(engine->model().hparams().n_vocab));
  ASSERT_EQ(alone.size(), 12u);
  for (size_t i = 0; i < alone.size(); ++i) {
    ASSERT_EQ(alone[i].size(), 1u);
    ASSERT_EQ(three[i].size(), 4u);
    EXPECT_EQ(alone[i][0].id, 65);
    EXPECT_LT(alone[i][0].logprob, 0) << "a biased token is not as certain as it seems";
    EXPECT_EQ(three[i][0].logprob, alone[i][0].logprob);
    EXPECT_GE(three[i][1].logprob, three[i][2].logprob);
    double sum = 0;
    for (size_t k = 1; k < all[i].size(); ++k) sum += std::exp(double{all[i][k].logprob});
    EXPECT_NEAR(sum, 1, 1e-5) << "512 floats, each rounded by up to 1e-7 of itself";
  }
}

TEST(Engine, AWaitingCallerHearsTheStop) {
  const auto engine = open();
  ASSERT_NE(engine, nullptr);
  const Ids ids = prompt(*engine, kText);
  std::stop_source first;
  std::stop_source second;
  std::optional<Outcome> waited;
  Callbacks callbacks;
  callbacks.on_piece = [&](const Piece&) {
    if (waited) return;
    // The one place is taken, so the other caller must wait.
    std::thread caller([&] {
      auto outcome = engine->generate(request(ids, 30), {}, second.get_token());
      if (outcome) waited = std::move(*outcome);
    });
    second.request_stop();
    caller.join();
  };
  auto outcome = engine->generate(request(ids, 200), callbacks, first.get_token());
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->tokens.size(), 200u);
  ASSERT_TRUE(waited.has_value());
  EXPECT_EQ(waited->reason, FinishReason::kCancelled);
  EXPECT_TRUE(waited->tokens.empty());
}

/// Allows the tokens of a list one after the other, then the end.
class OneByOne : public sampling::Constraint {
 public:
  OneByOne(Ids ids, Ids ends, int64_t n_vocab)
      : ids_(std::move(ids)), ends_(std::move(ends)), mask_(static_cast<size_t>((n_vocab + 63) / 64)) {}
  Result<sampling::TokenMask> mask() override {
    std::fill(mask_.begin(), mask_.end(), 0);
    for (const int32_t id : may_end() ? ends_ : Ids{ids_[next_]})
      mask_[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    return mask_;
  }
  Status accept(int32_t token) override {
    if (may_end() || token != ids_[next_]) return fail(ErrorKind::kInternal, "not allowed: {}", token);
    ++next_;
    return {};
  }
  bool may_end() const override { return next_ == ids_.size(); }

 private:
  Ids ids_, ends_;
  std::vector<uint64_t> mask_;
  size_t next_ = 0;
};

TEST(Engine, AConstraintDecidesWhatIsDrawn) {
  const auto engine = open();
  const Ids ids = prompt(*engine, "held to this text");
  const int64_t n_vocab = engine->model().hparams().n_vocab;
  Ids ends;
  for (int32_t id = 0; id < n_vocab; ++id)
    if (engine->tokenizer().is_end_of_generation(id)) ends.push_back(id);
  int n_made = 0;
  Request what = request(prompt(*engine, kText), 50);
  what.constraint = [&] {
    ++n_made;
    return std::make_unique<OneByOne>(ids, ends, n_vocab);
  };
  for (const bool ignore_eos : {false, true}) {
    what.ignore_eos = ignore_eos;
    const Reply generation = run(*engine, what);
    EXPECT_EQ(generation.outcome.text, "held to this text");
    EXPECT_EQ(generation.outcome.reason, FinishReason::kEndOfTurn);
    EXPECT_EQ(generation.outcome.statistics.generated_tokens, std::ssize(ids) + (ignore_eos ? 0 : 1));
  }
  EXPECT_EQ(n_made, 2);
  // Nothing may be drawn, and the text may not end: an error, not any token.
  what.constraint = [&] { return std::make_unique<OneByOne>(ends, ends, n_vocab); };
  EXPECT_FALSE(engine->generate(what, {}, {}).has_value());
}

}  // namespace
}  // namespace packmule::engine
