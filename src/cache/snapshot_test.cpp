// What a snapshot took out of one tree is what another gets from its file; and no file, whatever is in it,
// gives anything else.
#include "cache/snapshot.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

#include "cache/device_memory_for_test.h"
#include "cache/marked_sequence_for_test.h"
#include "cache/snapshot_file.h"

namespace packmule::cache {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int64_t kVocab = 1000;

Ids text(int64_t n, int32_t step) {
  Ids ids(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    ids[static_cast<size_t>(i)] = static_cast<int32_t>((i * step + i / 7) % kVocab);
  return ids;
}

/// A pool with its tree.
struct Caches {
  explicit Caches(int64_t n_pages = 40, const Layout& layout = small_layout())
      : pool(PagePool::create(layout, n_pages * kPageTokens).value()), tree(pool, int64_t{1} << 20) {}
  void keep(const Ids& tokens, std::vector<int64_t> marks, const std::vector<float>& logits = {}) {
    const auto sequence = pool->new_sequence().value();
    for (const int64_t at : marks) {
      extend(*sequence, tokens, at);
      auto state = tree.take_state();
      ASSERT_NE(state, nullptr);
      state->copy_from(sequence->recurrent());
      tree.insert(std::span(tokens).first(static_cast<size_t>(at)), sequence->page_numbers(),
                  std::move(state), at == std::ssize(tokens) ? logits : std::vector<float>());
    }
  }
  [[nodiscard]] SnapshotFormat format(uint64_t model = 7) const {
    return SnapshotFormat::of(*pool, model, kVocab, 5000);
  }
  std::shared_ptr<PagePool> pool;
  PrefixTree tree;
};

Snapshot take_all(Caches& caches, const Ids& tokens, int64_t first_page = 0) {
  std::vector<int64_t> marks = caches.tree.checkpoints_along(tokens);
  std::erase_if(marks, [&](int64_t at) { return at < first_page * kPageTokens; });
  auto taker = SnapshotTaker::begin(
      caches.pool, tokens, caches.tree.hold(tokens, (std::ssize(tokens) + kPageTokens - 1) / kPageTokens),
      first_page, marks);
  EXPECT_TRUE(taker.has_value());
  int rounds = 1;
  while (!taker->take(caches.tree, 100).value()) ++rounds;
  EXPECT_GT(rounds, 1) << "it was to be taken in parts";
  return std::move(taker->snapshot());
}

class SnapshotTest : public testing::Test {
 protected:
  SnapshotTest() : folder(fs::temp_directory_path() / fmt::format("packmule-snapshot-{}", getpid())) {
    fs::remove_all(folder);
    fs::create_directory(folder);
  }
  ~SnapshotTest() override { fs::remove_all(folder); }
  [[nodiscard]] std::string path(const std::string& name = "file") const { return folder / name; }
  fs::path folder;
};

std::string first_line(const Result<SnapshotReader>& reader) {
  if (reader.has_value()) return "";
  EXPECT_EQ(reader.error().message.find('\n'), std::string::npos);
  return reader.error().message;
}

std::vector<std::byte> bytes_of_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(chars));
  return {bytes.begin(), bytes.end()};
}

Result<SnapshotReader> open_bytes(const std::vector<std::byte>& bytes, const SnapshotFormat& format) {
  ByteSource source{.name = "bytes",
                    .size_bytes = bytes.size(),
                    .read = [&bytes](uint64_t offset, std::span<std::byte> to) -> Status {
                      if (offset + to.size() > bytes.size()) return fail(ErrorKind::kIo, "past the end");
                      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
                      return {};
                    }};
  return SnapshotReader::open(std::move(source), format);
}

TEST_F(SnapshotTest, ComesBackFromAFileInAnotherTree) {
  const Ids tokens = text(300, 3);
  std::vector<float> logits(kVocab);
  std::iota(logits.begin(), logits.end(), 0.5f);
  Caches from;
  from.keep(tokens, {64, 100, 230, 300}, logits);
  const auto size = write_snapshot(path(), from.format(), take_all(from, tokens));
  ASSERT_TRUE(size.has_value()) << size.error().message;
  EXPECT_EQ(static_cast<uint64_t>(*size), fs::file_size(path()));
  struct stat status {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u) << "it holds what people wrote";
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1) << "a part was left";

  Caches to;
  const auto reader = SnapshotReader::open(open_source(path()).value(), to.format());
  ASSERT_TRUE(reader.has_value()) << reader.error().message;
  const auto read = reader->read_all();
  ASSERT_TRUE(read.has_value()) << read.error().message;
  auto giver = SnapshotGiver::begin(to.pool, to.tree, *read, {});
  ASSERT_TRUE(giver.has_value());
  int rounds = 1;
  while (!giver->give(to.tree, *read, 100).value()) ++rounds;
  EXPECT_GT(rounds, 1);
  EXPECT_EQ(giver->n_tokens(), 300);
  EXPECT_EQ(to.tree.checkpoints_along(tokens), (std::vector<int64_t>{64, 100, 230, 300}));
  const auto sequence = to.pool->new_sequence().value();
  for (const int64_t length : {300, 299, 230, 150, 64}) {
    Ids asked(tokens.begin(), tokens.begin() + length);
    if (length < 300) asked.push_back(999);
    const auto found = to.tree.resume(asked, *sequence);
    EXPECT_EQ(found.n_tokens, length == 300 ? 300 : length >= 230 ? 230 : length >= 100 ? 100 : 64);
    EXPECT_EQ(n_wrong(*sequence, tokens), 0);
    if (length == 300) {
      EXPECT_TRUE(std::ranges::equal(found.logits, logits));
    }
  }
}

TEST_F(SnapshotTest, BuildsOnPagesThatAreThere) {
  const Ids tokens = text(300, 3);
  Caches from, to;
  from.keep(tokens, {130, 300});
  to.keep({tokens.begin(), tokens.begin() + 130}, {130});
  const Snapshot snapshot = take_all(from, tokens, 2);
  EXPECT_EQ(snapshot.n_pages(), 3);
  auto giver = SnapshotGiver::begin(to.pool, to.tree, snapshot, to.tree.hold(tokens, 2));
  ASSERT_TRUE(giver.has_value());
  while (!giver->give(to.tree, snapshot, 100).value()) continue;
  const auto sequence = to.pool->new_sequence().value();
  Ids asked = tokens;
  asked.push_back(1);
  EXPECT_EQ(to.tree.resume(asked, *sequence).n_tokens, 300);
  EXPECT_EQ(n_wrong(*sequence, tokens), 0);
}

TEST_F(SnapshotTest, NeedsRoomAndLeavesEverythingWhenThereIsNone) {
  const Ids tokens = text(300, 3);
  Caches from, small(4);
  from.keep(tokens, {300});
  const Snapshot snapshot = take_all(from, tokens);
  const auto giver = SnapshotGiver::begin(small.pool, small.tree, snapshot, {});
  ASSERT_FALSE(giver.has_value());
  EXPECT_EQ(giver.error().kind, ErrorKind::kOutOfMemory);
  EXPECT_EQ(small.pool->n_free_pages(), 4);
}

TEST_F(SnapshotTest, NoDamageGoesUnnoticed) {
  const Ids tokens = text(70, 3);
  Caches caches;
  caches.keep(tokens, {10, 70}, std::vector<float>(kVocab, 1.0f));
  ASSERT_TRUE(write_snapshot(path(), caches.format(), take_all(caches, tokens)).has_value());
  std::vector<std::byte> bytes = bytes_of_file(path());
  const auto whole = [&] {
    const auto reader = open_bytes(bytes, caches.format());
    return reader.has_value() && reader->read_all().has_value();
  };
  ASSERT_TRUE(whole());
  // Every byte of the head, and some of all the others.
  for (size_t i = 0; i < bytes.size(); i += i < 500 ? 1 : 97) {
    bytes[i] ^= std::byte{0x10};
    EXPECT_FALSE(whole()) << "byte " << i;
    bytes[i] ^= std::byte{0x10};
  }
  const std::vector<std::byte> all = bytes;
  for (size_t length = 0; length < all.size(); length += length < 500 ? 1 : 97) {
    bytes.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_NE(first_line(open_bytes(bytes, caches.format())), "") << length << " bytes";
  }
  bytes = all;
  bytes.push_back({});
  EXPECT_THAT(first_line(open_bytes(bytes, caches.format())), HasSubstr("bytes, expected"));
}

TEST_F(SnapshotTest, SaysWhoseFileItIs) {
  const Ids tokens = text(70, 3);
  Caches caches;
  caches.keep(tokens, {70});
  ASSERT_TRUE(write_snapshot(path(), caches.format(), take_all(caches, tokens)).has_value());
  const auto refusal = [&](const SnapshotFormat& format) {
    return first_line(SnapshotReader::open(open_source(path()).value(), format));
  };
  EXPECT_EQ(refusal(caches.format()), "");
  EXPECT_THAT(refusal(caches.format(8)), HasSubstr("made with another model"));
  Layout other = small_layout();
  other.k_type = quant::Type::kF16;
  EXPECT_THAT(refusal(Caches(4, other).format()), HasSubstr("other types of the KV cache"));
  SnapshotFormat format = caches.format();
  format.max_tokens = 69;
  EXPECT_THAT(refusal(format), HasSubstr("70 tokens, the context only 69"));
  format = caches.format();
  format.n_vocab = 100;
  EXPECT_THAT(refusal(format), HasSubstr("tokens that the model does not have"));
  std::vector<std::byte> bytes = bytes_of_file(path());
  bytes[8] = std::byte{2};
  EXPECT_THAT(first_line(open_bytes(bytes, caches.format())), HasSubstr("version 2"));
}

TEST_F(SnapshotTest, OnlyRegularFilesAreRead) {
  EXPECT_FALSE(open_source(path("missing")).has_value());
  EXPECT_FALSE(open_source(folder).has_value());
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(open_source(path("pipe")).has_value()) << "nor waited for";
  std::ofstream(path("real")) << "x";
  fs::create_symlink(path("real"), path("link"));
  EXPECT_TRUE(open_source(path("real")).has_value());
  EXPECT_FALSE(open_source(path("link")).has_value());
}

TEST_F(SnapshotTest, WhatCannotBeWrittenLeavesNothing) {
  const Ids tokens = text(70, 3);
  Caches caches;
  caches.keep(tokens, {70});
  const Snapshot snapshot = take_all(caches, tokens);
  EXPECT_THAT(write_snapshot(path("no/such"), caches.format(), snapshot).error().message,
              HasSubstr("No such file or directory"));
  fs::create_directory(path("taken"));
  EXPECT_FALSE(write_snapshot(path("taken"), caches.format(), snapshot).has_value());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
}

std::vector<std::byte> noise(size_t n) {
  std::vector<std::byte> bytes(n);
  uint32_t word = 1;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>((word = word * 1664525u + 1013904223u) >> 24);
  return bytes;
}

// Every way to give the layers to two sides reads and writes the same bytes, and each layer's are where it
// looks for them.
TEST(SnapshotSides, WhereALayerLiesDoesNotShowInItsBytes) {
  Layout layout = small_layout();
  layout.recurrent = {true, false, true, false, false, true};
  const std::vector<std::byte> page_bytes =
      noise(static_cast<size_t>(2 * kPageTokens * layout.kv_bytes_per_token()));
  const std::vector<std::byte> state_bytes = noise(static_cast<size_t>(layout.recurrent_bytes()));
  const auto layer_bytes =
      static_cast<size_t>(kPageTokens * layout.n_kv_heads * (layout.k_row_bytes() + layout.v_row_bytes()));
  const size_t s_bytes = 8 * sizeof(float), history_bytes = 12 * sizeof(float);
  for (uint32_t sides = 0; sides < 64; ++sides) {
    SCOPED_TRACE(sides);
    layout.on_device.clear();
    for (size_t layer = 0; layer < 6; ++layer) layout.on_device.push_back((sides >> layer & 1) != 0);
    const auto device = sides == 0 ? nullptr : std::make_shared<FakeDevice>(layout);
    const auto pool = PagePool::create(layout, 5 * kPageTokens, device).value();
    ASSERT_EQ(static_cast<size_t>(pool->page_bytes()) * 2, page_bytes.size());
    const auto before = pool->new_sequence().value(), sequence = pool->new_sequence().value();
    ASSERT_TRUE(before->reserve(1).has_value() && sequence->reserve(2 * kPageTokens).has_value());
    const std::vector<int64_t> pages(sequence->page_numbers().begin(), sequence->page_numbers().end());
    ASSERT_TRUE(pool->write_pages(pages, page_bytes).has_value());
    std::vector<std::byte> read(page_bytes.size());
    ASSERT_TRUE(pool->read_pages(pages, read).has_value());
    EXPECT_EQ(read, page_bytes);
    RecurrentState state = pool->new_state().value();
    ASSERT_EQ(static_cast<size_t>(state.size_bytes()), state_bytes.size());
    ASSERT_TRUE(state.write(state_bytes).has_value());
    read.resize(state_bytes.size());
    ASSERT_TRUE(state.read(read).has_value());
    EXPECT_EQ(read, state_bytes);
    if (device != nullptr) {
      EXPECT_EQ(device->n_calls, (sides & 0b011010) != 0 ? 4 : 2) << "page by page";
    }

    size_t n_attention = 0, n_recurrent = 0, on_device[2] = {0, 0};
    const size_t n_device_states = (sides & 1) + (sides >> 2 & 1) + (sides >> 5 & 1);
    for (int layer = 0; layer < 6; ++layer) {
      const bool recurrent = layout.recurrent[static_cast<size_t>(layer)];
      const bool there = layout.is_on_device(static_cast<size_t>(layer));
      if (recurrent) {
        const std::byte* s = nullptr;
        const std::byte* history = nullptr;
        if (there) {
          s = FakeDevice::bytes_of(*state.on_device()).data() + on_device[1] * s_bytes;
          history = FakeDevice::bytes_of(*state.on_device()).data() + n_device_states * s_bytes +
                    on_device[1] * history_bytes;
        } else {
          s = reinterpret_cast<const std::byte*>(state.state(layer));
          history = reinterpret_cast<const std::byte*>(state.conv_history(layer));
        }
        EXPECT_EQ(std::memcmp(s, state_bytes.data() + n_recurrent * s_bytes, s_bytes), 0) << layer;
        EXPECT_EQ(std::memcmp(history, state_bytes.data() + 3 * s_bytes + n_recurrent * history_bytes,
                              history_bytes),
                  0)
            << layer;
        ++n_recurrent;
      } else {
        const std::byte* const expected =
            page_bytes.data() + page_bytes.size() / 2 + n_attention * layer_bytes;
        const std::byte* const found =
            there ? device->pages[static_cast<size_t>(pages[1])].data() + on_device[0] * layer_bytes
                  : sequence->k_row(layer, 0, kPageTokens);
        EXPECT_EQ(std::memcmp(found, expected, layer_bytes), 0) << layer;
        ++n_attention;
      }
      on_device[recurrent ? 1 : 0] += there ? 1 : 0;
    }
  }
}

// At every call of a device that may fail.
TEST(SnapshotSides, ADeviceThatFailsIsAnError) {
  Layout layout = small_layout();
  layout.recurrent = {true, false, true};
  layout.on_device = {true, true, true};
  const Ids tokens = text(300, 3);
  const auto device = std::make_shared<FakeDevice>(layout);
  const auto pool = PagePool::create(layout, 20 * kPageTokens, device).value();
  PrefixTree tree(pool, int64_t{1} << 20);
  Snapshot whole;
  for (int64_t calls = 0;; ++calls) {
    SCOPED_TRACE(calls);
    tree.clear();
    const auto sequence = pool->new_sequence().value();
    ASSERT_TRUE(sequence->reserve(300).has_value());
    tree.insert(tokens, sequence->page_numbers(), tree.take_state());
    device->calls_left = calls;
    auto taker = SnapshotTaker::begin(pool, tokens, tree.hold(tokens, 5), 0, {300});
    Result<bool> complete = taker->take(tree, 100);
    while (complete && !*complete) complete = taker->take(tree, 100);
    if (complete) {
      EXPECT_EQ(calls, 6) << "the state and five pages";
      whole = std::move(taker->snapshot());
      break;
    }
    EXPECT_EQ(complete.error().message, "the device is lost");
  }
  const auto other_device = std::make_shared<FakeDevice>(layout);
  const auto other_pool = PagePool::create(layout, 20 * kPageTokens, other_device).value();
  PrefixTree other_tree(other_pool, int64_t{1} << 20);
  for (int64_t calls = 0; calls < 7; ++calls) {
    SCOPED_TRACE(calls);
    other_device->calls_left = calls;
    auto giver = SnapshotGiver::begin(other_pool, other_tree, whole, {});
    Result<bool> complete = giver->give(other_tree, whole, 100);
    while (complete && !*complete) complete = giver->give(other_tree, whole, 100);
    EXPECT_EQ(complete.has_value(), calls == 6);
    EXPECT_EQ(other_tree.n_checkpoints(), calls == 6 ? 1 : 0);
    giver = tl::unexpected(Error{});
    EXPECT_EQ(other_pool->n_free_pages(), calls == 6 ? 15 : 20);
  }
}

}  // namespace
}  // namespace packmule::cache
