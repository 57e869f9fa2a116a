// What outlives an engine whose caches are on a device: the files are those of the host's caches, and go from
// one side to the other.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>

#include "engine/placed_engine_for_test.h"

namespace packmule::engine {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Where the caches of recurrent layers and of attention are, and with these the layers.
enum class Caches { kHost, kDevice, kRecurrent, kAttention, kEveryOther };
constexpr Caches kAll[] = {Caches::kHost, Caches::kDevice, Caches::kRecurrent, Caches::kAttention,
                           Caches::kEveryOther};

class PlacedDisk : public PlacedEngine {
 protected:
  PlacedDisk() : folder(fs::temp_directory_path() / fmt::format("packmule-placed-disk-{}", getpid())) {
    fs::remove_all(folder);
    fs::create_directory(folder);
  }
  ~PlacedDisk() override { fs::remove_all(folder); }

  static std::shared_ptr<model::Placement> place(Caches caches, std::shared_ptr<runtime::Gpu> gpu = gpu_) {
    if (caches == Caches::kHost) return nullptr;
    auto where = placement(std::move(gpu), false, true);
    const model::Hparams hparams = model::Hparams::read(gguf::File::open(small_model()).value()).value();
    for (size_t layer = 0; layer < where->caches.size(); ++layer) {
      const bool recurrent = hparams.recurrent[layer];
      where->caches[layer] = caches == Caches::kDevice || (caches == Caches::kRecurrent && recurrent) ||
                             (caches == Caches::kAttention && !recurrent) ||
                             (caches == Caches::kEveryOther && layer % 2 == 0);
    }
    return where;
  }
  std::unique_ptr<Engine> start(std::shared_ptr<model::Placement> where,
                                const std::function<void(EngineOptions&)>& change = {}) {
    return open([&](EngineOptions& options) {
      options.ctx_size = 512;
      options.ubatch_size = 64;
      options.n_parallel = 2;
      options.cache_ram_bytes = int64_t{64} << 20;
      options.placement = std::move(where);
      options.warn = [this](const std::string& line) {
        const std::lock_guard lock(mutex);
        lines.push_back(line);
      };
      if (change) change(options);
    });
  }
  std::unique_ptr<Engine> start_with_disk(std::shared_ptr<model::Placement> where,
                                          const std::function<void(EngineOptions&)>& change = {}) {
    return start(std::move(where), [&](EngineOptions& options) {
      options.cache_disk_path = folder / "disk";
      if (change) change(options);
    });
  }
  [[nodiscard]] std::string path(const std::string& name = "slot") const { return folder / name; }
  /// Of conversations; the disk cache has a file of its own beside them.
  [[nodiscard]] int64_t n_files(const fs::path& where) const {
    return std::count_if(
        fs::directory_iterator(where), fs::directory_iterator(),
        [](const fs::directory_entry& entry) { return entry.is_regular_file() && entry.file_size() > 0; });
  }

  fs::path folder;
  std::mutex mutex;
  std::vector<std::string> lines;
};

Ids text(int64_t n, uint32_t seed) {
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>((seed = seed * 1664525u + 1013904223u) >> 16) % 200;
  return ids;
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Exact products on the host, as on the device: where activations are rounded to bytes, this model of random
/// weights says something else after a few tokens.
class ExactProducts {
 public:
  ExactProducts() { setenv("PACKMULE_CPU", "ref", 1); }
  ~ExactProducts() { was_ ? setenv("PACKMULE_CPU", was_->c_str(), 1) : unsetenv("PACKMULE_CPU"); }

 private:
  std::optional<std::string> was_ = std::getenv("PACKMULE_CPU") == nullptr
                                        ? std::nullopt
                                        : std::optional<std::string>(std::getenv("PACKMULE_CPU"));
};

TEST_F(PlacedDisk, ASavedSlotIsGoneOnFromOnEverySide) {
  const ExactProducts exact;
  const Ids ids = text(150, 1), more = text(5, 3);
  for (const Caches from : kAll) {
    Reply first, second;
    Ids next = ids;
    Engine::SlotFile saved;
    {
      const auto engine = start(place(from));
      ASSERT_NE(engine, nullptr);
      Request what = request(ids, 10);
      what.boundaries = {70};
      first = run(*engine, what);
      const auto result = engine->save_slot(0, path(), {});
      ASSERT_TRUE(result.has_value()) << result.error().message;
      saved = *result;
      EXPECT_EQ(saved.n_tokens, 150 + 9);
      next.insert(next.end(), first.outcome.tokens.begin(), first.outcome.tokens.end() - 1);
      next.insert(next.end(), more.begin(), more.end());
      second = run(*engine, request(next, 10));
    }
    for (const Caches to : {Caches::kHost, Caches::kDevice, Caches::kEveryOther}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(from) << " to " << static_cast<int>(to));
      const auto engine = start(place(to));
      ASSERT_NE(engine, nullptr);
      const auto restored = engine->restore_slot(1, path(), {});
      ASSERT_TRUE(restored.has_value()) << restored.error().message;
      EXPECT_EQ(restored->n_tokens, saved.n_tokens);
      // Bit for bit what was read, wherever it lies now.
      ASSERT_TRUE(engine->save_slot(1, path("again"), {}).has_value());
      EXPECT_TRUE(contents(path("again")) == contents(path()));
      const Reply again = run(*engine, request(ids, 10));
      EXPECT_LE(processed(again), 1);
      EXPECT_EQ(again.outcome.tokens, first.outcome.tokens);
      const Reply further = run(*engine, request(next, 10));
      EXPECT_EQ(processed(further), 5);
      EXPECT_EQ(further.outcome.tokens, second.outcome.tokens);
      Ids other(ids.begin(), ids.begin() + 70);
      other.insert(other.end(), more.begin(), more.end());
      EXPECT_EQ(processed(run(*engine, request(other, 2))), 5) << "from the boundary";
    }
  }
  EXPECT_TRUE(lines.empty()) << lines.front();
}

TEST_F(PlacedDisk, TheCacheOutlivesTheEngineAndChangesSides) {
  const ExactProducts exact;
  const Ids ids = text(200, 5);
  Reply first;
  {
    const auto engine = start_with_disk(place(Caches::kDevice));
    ASSERT_NE(engine, nullptr);
    first = run(*engine, request(ids, 10));
  }
  for (const Caches side : {Caches::kDevice, Caches::kHost, Caches::kEveryOther}) {
    SCOPED_TRACE(static_cast<int>(side));
    const auto engine = start_with_disk(place(side));
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(engine->state().disk.entries, 2) << "the ends of the prompt and of the answer";
    const Reply again = run(*engine, request(ids, 10));
    EXPECT_LE(processed(again), 1);
    EXPECT_EQ(again.outcome.tokens, first.outcome.tokens);
    EXPECT_EQ(engine->state().disk.hits, 1);
  }
  EXPECT_TRUE(lines.empty()) << lines.front();
}

TEST_F(PlacedDisk, WhatMemoryHasNoRoomForIsReadFromTheDisk) {
  constexpr uint32_t kConversations = 6;
  const int64_t state_bytes = start(nullptr)->state().recurrent_bytes / 2;
  const auto engine = start_with_disk(place(Caches::kDevice), [&](EngineOptions& options) {
    options.cache_ram_bytes = 7 * state_bytes;  // half of it is for states: three checkpoints
  });
  ASSERT_NE(engine, nullptr);
  std::vector<Ids> answers;
  for (uint32_t i = 0; i < kConversations; ++i)
    answers.push_back(run(*engine, request(text(70, 10 + i), 6)).outcome.tokens);
  EXPECT_LE(engine->state().checkpoints, 3);
  EXPECT_LE(engine->state().checkpoint_bytes, engine->state().checkpoint_budget_bytes);
  for (uint32_t i = 0; i < kConversations; ++i) {
    const Reply again = run(*engine, request(text(70, 10 + i), 6));
    EXPECT_LE(processed(again), 1) << i;
    EXPECT_EQ(again.outcome.tokens, answers[i]) << i;
  }
  EXPECT_GE(engine->state().disk.hits, kConversations - 1);
  EXPECT_EQ(engine->state().disk.lost_entries, 0);
  EXPECT_TRUE(lines.empty()) << lines.front();
}

TEST_F(PlacedDisk, ALostDeviceLeavesNoFile) {
  const auto own = vulkan::Device::create(test().instance, test().info).value();
  {
    const auto engine = start_with_disk(place(Caches::kDevice, runtime::Gpu::create(own).value()));
    ASSERT_NE(engine, nullptr);
    run(*engine, request(text(150, 1), 4));
    ASSERT_TRUE(engine->save_slot(0, path("good"), {}).has_value());
    const std::string good = contents(path("good"));
    // At each submission of a save, the states' and the pages'.
    for (int64_t n = 0;; ++n) {
      own->lose_after(n);
      const auto saved = engine->save_slot(0, path("bad"), {});
      if (saved) {
        EXPECT_EQ(n, 3);
        break;
      }
      EXPECT_THAT(saved.error().message, HasSubstr("lost"));
      EXPECT_EQ(saved.error().message.find('\n'), std::string::npos);
      EXPECT_EQ(n_files(folder), 1) << "the good one";
    }
    EXPECT_TRUE(contents(path("bad")) == good);
    own->lose_after(0);
    EXPECT_THAT(engine->restore_slot(0, path("good"), {}).error().message, HasSubstr("lost"));
  }
  EXPECT_EQ(n_files(folder / "disk"), 0);
  EXPECT_THAT(lines, testing::ElementsAre(AllOf(HasSubstr("lost"), HasSubstr("--cache-disk"))));
}

// A copy that failed unheard would be a wrong state in a file.
TEST_F(PlacedDisk, AfterACopyThatFailedNothingIsSaved) {
  const auto own = vulkan::Device::create(test().instance, test().info).value();
  const auto engine = start(place(Caches::kDevice, runtime::Gpu::create(own).value()));
  ASSERT_NE(engine, nullptr);
  run(*engine, request(text(70, 1), 4));
  Request next = request(text(70, 1), 4);
  next.prompt.push_back(7);
  own->lose_after(0);
  EXPECT_FALSE(engine->generate(next, {}, {}).has_value());
  own->lose_after(-1);  // as if it had come back
  run(*engine, request(text(70, 2), 4));
  for (int slot = 0; slot < 2; ++slot) EXPECT_FALSE(engine->save_slot(slot, path(), {}).has_value());
  EXPECT_FALSE(fs::exists(path()));
}

// Where both sides have one memory, kept states take what the plan left, and no more.
TEST_F(PlacedDisk, KeptStatesStayInTheBudget) {
  if (test().info.heaps.size() != 1)
    GTEST_SKIP() << "the device has memory of its own: it keeps no states there";
  constexpr int64_t kLeft = int64_t{32} << 20;  // DeviceCaches::kLeftByKeptStates
  int64_t needed = 0, state_bytes = 0;
  {
    const auto own = vulkan::Device::create(test().instance, test().info).value();
    const auto engine = start(place(Caches::kDevice, runtime::Gpu::create(own).value()));
    needed = own->budget().taken_bytes();
    state_bytes = engine->state().recurrent_bytes / 2;  // two slots
  }
  const auto own = vulkan::Device::create(test().instance, test().info,
                                          {.limit_bytes = needed + kLeft + 3 * state_bytes + state_bytes / 2,
                                           .reserve_bytes = 0})
                       .value();
  const auto engine = start(place(Caches::kDevice, runtime::Gpu::create(own).value()));
  ASSERT_NE(engine, nullptr);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(run(*engine, request(text(40, i), 4)).outcome.tokens.size(), 4u);
    EXPECT_LE(engine->state().checkpoints, 3);
    EXPECT_GE(own->budget().left_bytes(), kLeft);
    EXPECT_LE(processed(run(*engine, request(text(40, i), 4))), 1)
        << "what is new takes the place of the old";
  }
  EXPECT_EQ(engine->state().checkpoints, 3);
  const auto saved = engine->save_slot(0, path(), {});
  EXPECT_TRUE(saved.has_value()) << saved.error().message;
}

}  // namespace
}  // namespace packmule::engine
