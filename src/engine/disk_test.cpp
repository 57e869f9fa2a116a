// What outlives an engine: slots saved to files, and the prefix tree on the disk. Counted in tokens.
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "engine/engine_for_test.h"

namespace packmule::engine {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class DiskTest : public testing::Test {
 protected:
  DiskTest() : folder(fs::temp_directory_path() / fmt::format("packmule-engine-{}", getpid())) {
    fs::remove_all(folder);
    fs::create_directory(folder);
  }
  ~DiskTest() override { fs::remove_all(folder); }

  std::unique_ptr<Engine> start(const std::function<void(EngineOptions&)>& change = {}) {
    return open([&](EngineOptions& options) {
      options.ctx_size = 2048;
      options.ubatch_size = 128;
      options.cache_ram_bytes = int64_t{64} << 20;
      options.warn = [this](const std::string& line) {
        const std::lock_guard lock(mutex);
        lines.push_back(line);
      };
      if (change) change(options);
    });
  }
  std::unique_ptr<Engine> start_with_disk(const std::function<void(EngineOptions&)>& change = {}) {
    return start([&](EngineOptions& options) {
      options.cache_disk_path = folder / "disk";
      if (change) change(options);
    });
  }
  [[nodiscard]] std::string path() const { return folder / "slot"; }

  fs::path folder;
  std::mutex mutex;
  std::vector<std::string> lines;
};

Ids noise(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 200);
  return ids;
}

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Not greedy: a single bit of the logits may decide.
Request ask(Ids ids, std::vector<int64_t> boundaries = {}, uint32_t seed = 1) {
  Request what = request(std::move(ids), 12);
  what.sampling.temperature = 1.0f;
  what.sampling.seed = seed;
  what.boundaries = std::move(boundaries);
  return what;
}

int64_t processed(const Reply& reply) {
  return reply.outcome.statistics.prompt_tokens - reply.outcome.statistics.cached_tokens;
}

TEST_F(DiskTest, ASavedSlotIsGoneOnFromByAnotherEngine) {
  const Ids system = noise(150, 1), ids = joined(system, noise(120, 2));
  Reply first;
  Engine::SlotFile saved;
  {
    const auto engine = start();
    ASSERT_NE(engine, nullptr);
    first = run(*engine, ask(ids, {150}));
    EXPECT_EQ(processed(first), 270);
    const auto result = engine->save_slot(0, path(), {});
    ASSERT_TRUE(result.has_value()) << result.error().message;
    saved = *result;
    EXPECT_EQ(saved.n_tokens, 270 + 11) << "the last token drawn is in no cache";
    EXPECT_EQ(static_cast<uint64_t>(saved.n_bytes), fs::file_size(path()));
  }
  const auto engine = start();
  const auto restored = engine->restore_slot(0, path(), {});
  ASSERT_TRUE(restored.has_value()) << restored.error().message;
  EXPECT_EQ(restored->n_tokens, saved.n_tokens);
  EXPECT_EQ(restored->n_bytes, saved.n_bytes);
  EXPECT_EQ(engine->state().slots[0].held_tokens, saved.n_tokens);
  const Reply again = run(*engine, ask(ids, {150}));
  EXPECT_LE(processed(again), 1);
  EXPECT_EQ(again.outcome.tokens, first.outcome.tokens);
  Ids next = joined(ids, first.outcome.tokens);
  next.resize(next.size() - 1);
  EXPECT_EQ(processed(run(*engine, ask(joined(next, noise(5, 3))))), 5);
  EXPECT_EQ(processed(run(*engine, ask(joined(system, noise(7, 4))))), 7) << "the boundary was saved too";
}

TEST_F(DiskTest, SlotsThatCannotBeSavedOrRestoredSaySo) {
  const auto engine = start();
  ASSERT_NE(engine, nullptr);
  EXPECT_THAT(engine->save_slot(1, path(), {}).error().message, HasSubstr("no slot 1, expected 0 to 0"));
  EXPECT_THAT(engine->save_slot(-1, path(), {}).error().message, HasSubstr("no slot"));
  EXPECT_THAT(engine->save_slot(0, path(), {}).error().message, HasSubstr("holds no conversation"));
  EXPECT_FALSE(fs::exists(path()));
  EXPECT_EQ(engine->erase_slot(0, {}).value(), 0);
  EXPECT_THAT(engine->restore_slot(0, path(), {}).error().message, HasSubstr("No such file"));
  std::ofstream(path()) << "this is a text";
  EXPECT_THAT(engine->restore_slot(0, path(), {}).error().message, HasSubstr("no snapshot"));
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_EQ(engine->save_slot(0, path(), stopped.get_token()).error().kind, ErrorKind::kCancelled);

  run(*engine, ask(noise(100, 1)));
  EXPECT_THAT(engine->save_slot(0, folder / "no" / "slot", {}).error().message, HasSubstr("cannot write"));
  ASSERT_TRUE(engine->save_slot(0, path(), {}).has_value());
  const auto other = start([](EngineOptions& options) { options.k_type = quant::Type::kQ8_0; });
  EXPECT_THAT(other->restore_slot(0, path(), {}).error().message, HasSubstr("-ctk"));
  const auto forgetful = start([](EngineOptions& options) { options.cache_ram_bytes = 0; });
  EXPECT_THAT(forgetful->restore_slot(0, path(), {}).error().message, HasSubstr("--cache-ram"));
  EXPECT_EQ(run(*forgetful, ask(noise(100, 1))).outcome.tokens,
            run(*engine, ask(noise(100, 1))).outcome.tokens);
}

TEST_F(DiskTest, AnErasedSlotIsReadAgainButNotWhatOthersShare) {
  for (const bool with_disk : {false, true}) {
    const auto engine = with_disk ? start_with_disk() : start();
    const Ids system = noise(150, 1), one = joined(system, noise(50, 2)),
              other = joined(system, noise(60, 3));
    run(*engine, ask(other, {150}));
    run(*engine, ask(one, {150}));
    EXPECT_EQ(engine->erase_slot(0, {}).value(), 50 + 11);
    EXPECT_EQ(engine->state().slots[0].held_tokens, 0);
    EXPECT_EQ(processed(run(*engine, ask(one, {150}))), 50);
    EXPECT_LE(processed(run(*engine, ask(other, {150}))), 1);
  }
}

TEST_F(DiskTest, TheCacheOutlivesTheEngine) {
  const Ids system = noise(300, 1), one = joined(system, noise(90, 2)), other = joined(system, noise(60, 3));
  Reply first;
  {
    const auto engine = start_with_disk();
    ASSERT_NE(engine, nullptr);
    first = run(*engine, ask(one, {300}));
    run(*engine, ask(other, {300}));
    EXPECT_EQ(engine->state().disk.entries, 0) << "memory has room";
  }
  for (int round = 0; round < 2; ++round) {
    const auto engine = start_with_disk();
    EXPECT_EQ(engine->state().disk.entries, 5 + 2 * round) << "ends of prompts and answers, and the boundary";
    const Reply again = run(*engine, ask(one, {300}));
    EXPECT_LE(processed(again), 1);
    EXPECT_EQ(again.outcome.tokens, first.outcome.tokens);
    EXPECT_EQ(engine->state().disk.hits, 1);
    EXPECT_EQ(engine->state().disk.hit_tokens, 390);
    EXPECT_EQ(processed(run(*engine, ask(joined(system, noise(9, 4 + static_cast<uint32_t>(round)))))), 9) << "from the boundary";
    EXPECT_EQ(engine->state().disk.hits, 2);
    EXPECT_LE(processed(run(*engine, ask(one, {300}))), 1);
    EXPECT_EQ(engine->state().disk.hits, 2) << "now in memory";
  }
  EXPECT_TRUE(lines.empty()) << lines.front();
  const auto engine = start_with_disk([](EngineOptions& options) { options.v_type = quant::Type::kQ8_0; });
  EXPECT_EQ(processed(run(*engine, ask(one, {300}))), 390) << "made with another cache";
  EXPECT_EQ(lines.size(), 1u);
}

TEST_F(DiskTest, WhatMemoryHasNoRoomForIsReadFromTheDisk) {
  constexpr int kConversations = 12;
  const int64_t state_bytes = start()->state().recurrent_bytes;
  // Room for five checkpoints.
  const auto tight = [&](EngineOptions& options) { options.cache_ram_bytes = 11 * state_bytes; };
  std::vector<Ids> prompts;
  std::vector<Ids> answers;
  const auto engine = start_with_disk(tight);
  ASSERT_NE(engine, nullptr);
  for (uint32_t i = 0; i < kConversations; ++i) {
    prompts.push_back(noise(200, 10 + i));
    answers.push_back(run(*engine, ask(prompts.back(), {}, i)).outcome.tokens);
  }
  EXPECT_LT(engine->state().checkpoints, kConversations);
  for (int round = 0; round < 2; ++round)
    for (uint32_t i = 0; i < kConversations; ++i) {
      const Reply again = run(*engine, ask(prompts[i], {}, i));
      EXPECT_LE(processed(again), 1) << i;
      EXPECT_EQ(again.outcome.tokens, answers[i]) << i;
    }
  EXPECT_GE(engine->state().disk.hits, kConversations);
  EXPECT_EQ(engine->state().disk.lost_entries, 0);
  EXPECT_TRUE(lines.empty()) << lines.front();
}

TEST_F(DiskTest, SeveralAskTheDiskForTheSame) {
  const Ids ids = noise(400, 1);
  Reply first;
  first = run(*start_with_disk(), ask(ids));
  const auto engine = start_with_disk([](EngineOptions& options) { options.n_parallel = 4; });
  std::vector<std::jthread> callers;
  std::atomic<int64_t> n_processed = 0;
  for (int i = 0; i < 8; ++i)
    callers.emplace_back([&] {
      const Reply reply = run(*engine, ask(ids));
      n_processed += processed(reply);
      EXPECT_EQ(reply.outcome.tokens, first.outcome.tokens);
    });
  callers.clear();
  EXPECT_EQ(n_processed, 0);
  EXPECT_EQ(engine->state().disk.hits, 1);
}

TEST_F(DiskTest, ADiskThatDoesNotWorkIsDoneWithout) {
  std::ofstream(folder / "disk") << "not a folder";
  const auto engine = start_with_disk();
  ASSERT_NE(engine, nullptr);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("going on without it"));
  EXPECT_EQ(processed(run(*engine, ask(noise(100, 1)))), 100);
  EXPECT_LE(processed(run(*engine, ask(noise(100, 1)))), 1);
}

TEST_F(DiskTest, DamagedFilesAreReadOver) {
  const Ids ids = noise(300, 1);
  Reply first;
  first = run(*start_with_disk(), ask(ids));
  for (const auto& file : fs::directory_iterator(folder / "disk")) {
    if (file.file_size() == 0) continue;
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(file.file_size()) - 1);
    stream.put('\x55');
  }
  const auto engine = start_with_disk();
  const Reply again = run(*engine, ask(ids));
  EXPECT_EQ(processed(again), 300);
  EXPECT_EQ(again.outcome.tokens, first.outcome.tokens);
  EXPECT_EQ(lines.size(), 1u);
}

}  // namespace
}  // namespace packmule::engine
