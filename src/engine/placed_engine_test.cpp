// An engine whose model is on a device, wholly or in part: slots, checkpoints and the prefix tree work as
// they do on the CPU, and a device that is lost takes requests with it, not the engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "engine/engine_for_test.h"
#include "model/hparams.h"
#include "model/placement.h"
#include "runtime/gpu.h"
#include "vulkan/device_for_test.h"

namespace packmule::engine {
namespace {

using testing::HasSubstr;

/// Everything on the device but, where asked for, the experts and the KV cache.
std::shared_ptr<model::Placement> placement(std::shared_ptr<runtime::Gpu> gpu, bool experts_on_device,
                                            bool attention_on_device) {
  auto made = std::make_shared<model::Placement>();
  made->gpu = std::move(gpu);
  const auto file = gguf::File::open(small_model()).value();
  for (const gguf::TensorInfo& tensor : file.tensors())
    if (experts_on_device || tensor.name.find("_exps") == std::string_view::npos)
      made->tensors.emplace(tensor.name);
  const model::Hparams hparams = model::Hparams::read(file).value();
  for (const bool recurrent : hparams.recurrent) made->caches.push_back(recurrent || attention_on_device);
  made->n_ctx = 512;
  made->n_sequences = 2;
  return made;
}

class PlacedEngine : public vulkan::testing_support::DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped() && gpu_ == nullptr) gpu_ = runtime::Gpu::create(device()).value();
  }
  static void TearDownTestSuite() { gpu_.reset(); }

  static std::unique_ptr<Engine> open_placed(std::shared_ptr<model::Placement> where, int n_parallel = 2,
                                             int64_t cache_ram = int64_t{64} << 20) {
    return open([&](EngineOptions& options) {
      options.ctx_size = 512;
      options.ubatch_size = 64;
      options.n_parallel = n_parallel;
      options.cache_ram_bytes = cache_ram;
      options.placement = std::move(where);
    });
  }

  inline static std::shared_ptr<runtime::Gpu> gpu_;  // of all tests, so that its driver compiles once
};

int64_t processed(const Reply& reply) {
  return reply.outcome.statistics.prompt_tokens - reply.outcome.statistics.cached_tokens;
}

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

// What is on the device would be missing in a file.
TEST_F(PlacedEngine, KeepsNothingInFilesThatIsOnTheDevice) {
  std::vector<std::string> warnings;
  const std::string folder = ::testing::TempDir() + fmt::format("packmule_placed_engine_test_{}", getpid());
  const auto engine = open([&](EngineOptions& options) {
    options.ctx_size = 512;
    options.ubatch_size = 64;
    options.cache_ram_bytes = int64_t{64} << 20;
    options.cache_disk_path = folder;
    options.warn = [&](const std::string& line) { warnings.push_back(line); };
    options.placement = placement(gpu_, false, true);
  });
  ASSERT_NE(engine, nullptr);
  EXPECT_THAT(warnings, ::testing::ElementsAre(HasSubstr("on a graphics card")));
  EXPECT_FALSE(std::filesystem::exists(folder));
  (void)run(*engine, request(prompt(*engine, kText), 4));
  EXPECT_THAT(engine->save_slot(0, folder, {}).error().message, HasSubstr("on a graphics card"));
  EXPECT_THAT(engine->restore_slot(0, folder, {}).error().message, HasSubstr("on a graphics card"));
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
