// Device, memory, upload, pipelines and command lists.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "tests/support/test_data.h"
#include "vulkan/commands.h"
#include "vulkan/device_for_test.h"
#include "vulkan/exchange.h"
#include "vulkan/stream_ring.h"

namespace packmule::vulkan {
namespace {

using ::testing::HasSubstr;
using testing_support::DeviceTest;
using testing_support::from_device;
using testing_support::to_device;

struct FillPush {
  VkDeviceAddress words;
  uint32_t n;
  uint32_t unused = 0;
};
// Workgroup, step.
constexpr uint32_t kFillConstants[] = {64, 3};

TEST_F(DeviceTest, IsListed) {
  const auto devices = test().instance->devices();
  ASSERT_TRUE(devices.has_value());
  for (size_t i = 0; i < devices->size(); ++i) {
    const DeviceInfo& info = (*devices)[i];
    EXPECT_EQ(info.id, fmt::format("Vulkan{}", i));
    EXPECT_THAT(describe(info), HasSubstr(info.id + ": " + info.name));
    if (!info.usable()) continue;
    EXPECT_GT(info.memory().size_bytes, 0);
    EXPECT_TRUE(info.memory().device_local);
    EXPECT_GE(info.subgroup_size, 1u);
  }
}

// LP_NATIVE_VECTOR_WIDTH decides lavapipe's subgroups; a test that believes to run with 4 must.
TEST_F(DeviceTest, SubgroupsAreAsWideAsAskedFor) {
  const char* width = std::getenv("LP_NATIVE_VECTOR_WIDTH");
  if (width == nullptr || test().info.name.find("llvmpipe") == std::string::npos)
    GTEST_SKIP() << "no width was asked for";
  EXPECT_EQ(test().info.subgroup_size * 32, static_cast<uint32_t>(std::stoi(width)));
}

// The other tests believe that the layer would have said something.
TEST_F(DeviceTest, TheValidationLayerSeesAMistake) {
  const Buffer buffer = to_device(std::vector<uint32_t>(4, 0));
  auto recorder = Recorder::begin(device());
  recorder->fill(buffer.span().part(2, 8), 0);
  (void)recorder->finish();
  EXPECT_FALSE(test().instance->take_messages().empty());
}

TEST_F(DeviceTest, UploadsThroughTheRingAndReadsBack) {
  // More than all slots hold, and not a multiple of a slot.
  std::vector<uint32_t> words(3 * Uploader::kSlots * 1024 + 77);
  std::iota(words.begin(), words.end(), 5u);
  const auto bytes = static_cast<int64_t>(4 * words.size());
  auto buffer = Buffer::create(device(), Buffer::Kind::kDevice, bytes + 4096, "a test");
  ASSERT_TRUE(buffer.has_value());
  auto uploader = Uploader::create(device(), 4096);
  ASSERT_TRUE(uploader.has_value());
  std::vector<int64_t> progress;
  ASSERT_TRUE(uploader
                  ->upload(std::as_bytes(std::span(words)), buffer->span().part(4096, bytes),
                           [&](int64_t n) { progress.push_back(n); })
                  .has_value());
  ASSERT_TRUE(uploader->finish().has_value());
  EXPECT_EQ(progress.size(), static_cast<size_t>(bytes + 4095) / 4096);
  EXPECT_TRUE(std::ranges::is_sorted(progress));
  EXPECT_EQ(progress.back(), bytes);
  std::vector<uint32_t> back(words.size());
  ASSERT_TRUE(read_back(device(), buffer->span().part(4096, bytes), std::as_writable_bytes(std::span(back))));
  EXPECT_EQ(back, words);
  EXPECT_FALSE(uploader->upload(std::as_bytes(std::span(words)), buffer->span().part(0, 8)).has_value());
}

TEST_F(DeviceTest, PiecesGoThroughTheStagingOfAnExchange) {
  // Nothing, single words, what fills a slot, and more than both slots hold; on the device in another order,
  // with a word between them.
  const std::vector<size_t> n_words{0, 1, 3, 1024, 5, 0, 5000, 1023, 2, 0};
  const size_t n_all = std::accumulate(n_words.begin(), n_words.end(), size_t{0});
  std::vector<uint32_t> words(n_all), back(n_all), expected(n_all + n_words.size(), 7);
  std::iota(words.begin(), words.end(), 100u);
  const auto own = Device::create(test().instance, test().info).value();
  auto buffer =
      Buffer::create(own, Buffer::Kind::kDevice, static_cast<int64_t>(4 * expected.size()), "a test");
  ASSERT_TRUE(buffer.has_value());
  const auto all = [](auto& values) { return std::as_writable_bytes(std::span(values)); };
  std::vector<Exchange::Piece<const std::byte>> out;
  std::vector<Exchange::Piece<std::byte>> in;
  size_t host = 0, device_end = expected.size();
  for (const size_t n : n_words) {
    const size_t at = device_end - n;
    device_end = at - 1;
    const Span there = buffer->span().part(static_cast<int64_t>(4 * at), static_cast<int64_t>(4 * n));
    out.push_back({there, std::as_bytes(std::span(words)).subspan(4 * host, 4 * n)});
    in.push_back({there, all(back).subspan(4 * host, 4 * n)});
    std::copy_n(words.begin() + static_cast<std::ptrdiff_t>(host), n,
                expected.begin() + static_cast<std::ptrdiff_t>(at));
    host += n;
  }
  auto exchange = Exchange::create(own, 4096);
  ASSERT_TRUE(exchange.has_value());
  std::vector<uint32_t> sevens(expected.size(), 7);
  const std::vector<Exchange::Piece<const std::byte>> whole{
      {buffer->span(), std::as_bytes(std::span(sevens))}};
  ASSERT_TRUE(exchange->write(whole).has_value());
  ASSERT_TRUE(exchange->write(out).has_value());
  std::vector<uint32_t> there(expected.size());
  ASSERT_TRUE(read_back(own, buffer->span(), all(there)).has_value());
  EXPECT_EQ(there, expected);
  // A device that is lost on the way, and what it left in the slots.
  for (int64_t n = 0;; ++n) {
    own->lose_after(n);
    std::ranges::fill(back, 0u);
    const Status read = exchange->read(in);
    if (read) {
      EXPECT_GE(n, 6) << "submissions of 4,096 bytes at most";
      EXPECT_LE(n, 8);
      break;
    }
    EXPECT_THAT(read.error().message, HasSubstr("lost"));
  }
  EXPECT_EQ(back, words);
  own->lose_after(-1);
  in[3].host = in[3].host.first(8);
  EXPECT_FALSE(exchange->read(in).has_value());
}

TEST_F(DeviceTest, AListIsRecordedOnceAndRunOften) {
  constexpr uint32_t kN = 1001;
  const Buffer buffer = to_device(std::vector<uint32_t>(kN + 1, 10));
  const auto pipeline = test().pipelines->get(Shader::k_fill_test, kFillConstants);
  ASSERT_TRUE(pipeline.has_value());
  auto recorder = Recorder::begin(device());
  ASSERT_TRUE(recorder.has_value());
  const FillPush push{buffer.span().address, kN};
  recorder->dispatch(*pipeline, push, {(kN + 63) / 64});
  recorder->dispatch(*pipeline, push, {0});
  recorder->barrier();
  auto list = recorder->finish();
  ASSERT_TRUE(list.has_value());
  for (int run = 0; run < 3; ++run) ASSERT_TRUE(list->submit().has_value());
  ASSERT_TRUE(list->run().has_value());
  const auto words = from_device<uint32_t>(buffer, kN + 1);
  for (uint32_t i = 0; i < kN; ++i) ASSERT_EQ(words[i], 10 + 4 * (3 * i + test().info.subgroup_size)) << i;
  EXPECT_EQ(words[kN], 10u);
}

TEST_F(DeviceTest, TwoListsInOneCallHaveTicketsOfTheirOwn) {
  constexpr uint32_t kN = 64;
  const Buffer buffer = to_device(std::vector<uint32_t>(kN, 10));
  const auto pipeline = test().pipelines->get(Shader::k_fill_test, kFillConstants);
  ASSERT_TRUE(pipeline.has_value());
  std::vector<CommandList> lists;
  for (int i = 0; i < 2; ++i) {
    auto recorder = Recorder::begin(device());
    ASSERT_TRUE(recorder.has_value());
    recorder->dispatch(*pipeline, FillPush{buffer.span().address, kN}, {1});
    recorder->barrier();
    lists.push_back(std::move(*recorder->finish()));
  }
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(lists[0].submit_with(lists[1]).has_value());
    EXPECT_EQ(lists[1].ticket(), lists[0].ticket() + 1);
  }
  ASSERT_TRUE(device()->wait(lists[0].ticket()).has_value());
  ASSERT_TRUE(device()->wait(lists[1].ticket()).has_value());
  EXPECT_EQ(from_device<uint32_t>(buffer, kN)[5], 10 + 6 * (3 * 5 + test().info.subgroup_size));
}

TEST_F(DeviceTest, TheNumberOfGroupsMayComeFromABuffer) {
  const Buffer buffer = to_device(std::vector<uint32_t>(256, 0));
  const Buffer groups = to_device(std::vector<uint32_t>{99, 2, 1, 1});
  const auto pipeline = test().pipelines->get(Shader::k_fill_test, kFillConstants);
  ASSERT_TRUE(pipeline.has_value());
  auto recorder = Recorder::begin(device());
  recorder->dispatch_indirect(*pipeline, FillPush{buffer.span().address, 256}, groups.span().part(4, 12));
  recorder->barrier();
  auto list = recorder->finish();
  ASSERT_TRUE(list->run().has_value());
  const auto words = from_device<uint32_t>(buffer, 256);
  EXPECT_EQ(words[127], 3 * 127 + test().info.subgroup_size);
  EXPECT_EQ(words[128], 0u);
}

TEST_F(DeviceTest, TicketsTellWhatIsDone) {
  EXPECT_TRUE(device()->wait(0).has_value());
  auto recorder = Recorder::begin(device());
  auto list = recorder->finish();
  const auto ticket = list->submit();
  ASSERT_TRUE(ticket.has_value());
  ASSERT_TRUE(device()->wait(*ticket).has_value());
  EXPECT_TRUE(device()->is_done(*ticket).value());
  EXPECT_FALSE(device()->is_done(*ticket + 1).value());
}

TEST_F(DeviceTest, TheQueuesWaitForEachOther) {
  constexpr int64_t kBytes = 4 << 20;
  const auto make = [](Buffer::Kind kind) {
    return Buffer::create(device(), kind, kBytes, "a test").value();
  };
  const Buffer upload = make(Buffer::Kind::kUpload), shared = make(Buffer::Kind::kShared),
               result = make(Buffer::Kind::kDevice);
  auto copying = Recorder::begin(device(), QueueKind::kTransfer);
  copying->copy(upload.span(), shared.span());
  auto copy = copying->finish();
  auto working = Recorder::begin(device());
  working->copy(shared.span(), result.span());
  auto work = working->finish();
  Ticket worked = 0;
  for (uint32_t turn = 1; turn <= 5; ++turn) {
    std::ranges::fill(upload.as<uint32_t>(), turn);
    const auto copied = copy->submit(worked);
    ASSERT_TRUE(copied.has_value()) << copied.error().message;
    worked = work->submit(*copied).value();
    ASSERT_TRUE(device()->wait(worked).has_value());
    ASSERT_TRUE(device()->wait(*copied, QueueKind::kTransfer).has_value());
    EXPECT_EQ(from_device<uint32_t>(result, kBytes / 4).back(), turn);
  }
}

// Far more pieces than slots, each work slower than its copy, the last piece shorter.
TEST_F(DeviceTest, PiecesPassThroughARingInOrder) {
  constexpr int64_t kSlotBytes = 4096, kPieces = 23;
  for (const int64_t n_slots : {1, 2, 3}) {
    auto ring = StreamRing::create(device(), n_slots, kSlotBytes);
    ASSERT_TRUE(ring.has_value()) << ring.error().message;
    const Buffer all = to_device(std::vector<uint32_t>(kPieces * kSlotBytes / 4, 0));
    const Buffer slow = Buffer::create(device(), Buffer::Kind::kDevice, 1 << 20, "a test").value();
    for (int64_t piece = 0; piece < kPieces; ++piece) {
      const int64_t n_bytes = piece + 1 < kPieces ? kSlotBytes : 100;
      const auto ran = ring->run(
          n_bytes,
          [&](std::span<std::byte> staging) {
            EXPECT_EQ(static_cast<int64_t>(staging.size()), n_bytes);
            for (size_t i = 0; i < staging.size(); i += 4) {
              const auto word = static_cast<uint32_t>(piece * 10000 + static_cast<int64_t>(i));
              std::memcpy(&staging[i], &word, 4);
            }
          },
          [&](Recorder& recorder, const Span& slot) -> Status {
            for (int i = 0; i < 20; ++i) {
              recorder.fill(slow.span(), 1);
              recorder.barrier();
            }
            recorder.copy(slot.part(0, n_bytes), all.span().part(piece * kSlotBytes, n_bytes));
            return {};
          });
      ASSERT_TRUE(ran.has_value()) << ran.error().message;
    }
    ASSERT_TRUE(ring->finish().has_value());
    const auto words = from_device<uint32_t>(all, kPieces * kSlotBytes / 4);
    for (size_t i = 0; i < words.size() - kSlotBytes / 4 + 25; ++i)
      ASSERT_EQ(words[i], i / 1024 * 10000 + i % 1024 * 4) << i;
    EXPECT_EQ(words.back(), 0u);
    EXPECT_FALSE(ring->run(kSlotBytes + 4, {}, {}).has_value());
  }
}

TEST_F(DeviceTest, ArenasCountAgainstTheBudgetToTheByte) {
  const int64_t before = device()->budget().taken_bytes();
  ArenaLayout layout;
  layout.add("first", 1000);
  layout.add("second", 256);
  {
    const auto arenas = Arenas::allocate(device(), layout, "weights");
    ASSERT_TRUE(arenas.has_value());
    EXPECT_EQ(arenas->total_bytes(), 1280);
    EXPECT_EQ(device()->budget().taken_bytes() - before, arenas->total_bytes());
    EXPECT_EQ(arenas->span(1).address - arenas->span(0).address, 1024u);
    EXPECT_EQ(arenas->span(1).size_bytes, 256);
  }
  EXPECT_EQ(device()->budget().taken_bytes(), before);
}

// The last byte of a large arena is reached: no descriptor's range (128 MiB on lavapipe) is in the way.
TEST_F(DeviceTest, AnArenaLargerThanAStorageBindingIsReachedToItsEnd) {
  ArenaLayout layout;
  layout.add("below", 160 << 20);
  layout.add("end", 64 * 4);
  const auto arenas = Arenas::allocate(device(), layout, "weights");
  ASSERT_TRUE(arenas.has_value()) << arenas.error().message;
  const auto pipeline = test().pipelines->get(Shader::k_fill_test, kFillConstants);
  auto recorder = Recorder::begin(device());
  recorder->fill(arenas->span(1), 0);
  recorder->barrier();
  recorder->dispatch(*pipeline, FillPush{arenas->span(0).address + (160u << 20), 64}, {1});
  recorder->barrier();
  auto list = recorder->finish();
  ASSERT_TRUE(list->run().has_value());
  std::vector<uint32_t> words(64);
  ASSERT_TRUE(read_back(device(), arenas->span(1), std::as_writable_bytes(std::span(words))).has_value());
  EXPECT_EQ(words[63], 3 * 63 + test().info.subgroup_size);
}

TEST_F(DeviceTest, RefusesBeforeItAllocates) {
  const auto small =
      Device::create(test().instance, test().info, {.limit_bytes = 1 << 20, .reserve_bytes = 0});
  ASSERT_TRUE(small.has_value());
  EXPECT_EQ((*small)->budget().total_bytes(), 1 << 20);
  ArenaLayout layout;
  layout.add("fits", 1 << 19);
  layout.add("does not", 1 << 20);
  const auto refused = Arenas::allocate(*small, layout, "weights");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kOutOfMemory);
  EXPECT_THAT(refused.error().message,
              HasSubstr("weights need 1572864 bytes, 1048576 of the budget of 1048576"));
  EXPECT_EQ((*small)->budget().taken_bytes(), 0);
  layout = {};
  layout.add("all of it", 1 << 20);
  EXPECT_TRUE(Arenas::allocate(*small, layout, "weights").has_value());
}

TEST_F(DeviceTest, PipelinesComeFromTheCacheFile) {
  const std::filesystem::path file =
      packmule::testing_support::generated_dir() / fmt::format("vulkan_pipelines_{}", getpid());
  std::filesystem::remove(file);
  for (const bool cached : {false, true}) {
    const auto pipelines = Pipelines::create(device(), file);
    ASSERT_TRUE(pipelines.has_value());
    EXPECT_EQ((*pipelines)->cache_was_used(), cached);
    ASSERT_TRUE((*pipelines)->get(Shader::k_fill_test, kFillConstants).has_value());
    ASSERT_TRUE((*pipelines)->get(Shader::k_fill_test, kFillConstants).has_value());
    EXPECT_EQ((*pipelines)->n_pipelines(), 1u);
    ASSERT_TRUE((*pipelines)->save().has_value());
    EXPECT_TRUE(std::filesystem::exists(file));
  }
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace packmule::vulkan
