// What memory had no room for is found on the disk again, by this process and by the next one.
#include "cache/disk_cache.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "cache/marked_sequence_for_test.h"

namespace packmule::cache {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int64_t kVocab = 1000;

Ids text(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  Ids ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % kVocab);
  return ids;
}

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A folder, and what a process makes of it; restart() is the next process.
class DiskCacheTest : public testing::Test {
 protected:
  DiskCacheTest() : folder(fs::temp_directory_path() / fmt::format("packmule-disk-{}", getpid())) {
    fs::remove_all(folder);
  }
  ~DiskCacheTest() override { fs::remove_all(folder); }

  void restart(int64_t limit = int64_t{1} << 30, uint64_t model = 1) {
    disk.reset();
    sequence.reset();
    tree.reset();
    pool = PagePool::create(small_layout(), 60 * kPageTokens).value();
    tree = std::make_unique<PrefixTree>(pool, int64_t{1} << 20);
    sequence = pool->new_sequence().value();
    auto opened = DiskCache::open({.folder = folder,
                                   .limit_bytes = limit,
                                   .format = SnapshotFormat::of(*pool, model, kVocab, 5000),
                                   .log = [this](const std::string& line) { lines.push_back(line); }});
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    disk = std::move(*opened);
  }
  /// Writes the checkpoint behind these tokens, if the disk wants it.
  bool save(const Ids& tokens, std::vector<float> logits = {}, int64_t n_saved = 100) {
    sequence->reset();
    extend(*sequence, tokens, std::ssize(tokens));
    const auto reserved = disk->reserve(tokens, !logits.empty(), n_saved);
    if (!reserved) return false;
    const auto snapshot = take_snapshot(*pool,
                                        {.tokens = tokens,
                                         .pages = sequence->page_numbers(),
                                         .state = sequence->recurrent(),
                                         .logits = logits},
                                        reserved->first_page);
    return disk->store(reserved->ticket, *snapshot);
  }
  /// How many tokens of the prompt are there after what the disk has was brought to memory. What came is
  /// right.
  int64_t bring(const Ids& prompt) {
    const int64_t have = tree->find(prompt);
    const DiskCache::Found found = disk->find(prompt);
    if (found.n_tokens > have) {
      const int64_t first_page = have / kPageTokens;
      const auto snapshot = disk->load(found, prompt, first_page);
      if (snapshot) {
        auto giver = SnapshotGiver::begin(pool, *tree, *snapshot, tree->hold(prompt, first_page));
        EXPECT_TRUE(giver.has_value());
        while (!giver->give(*tree, *snapshot, 1000).value()) continue;
      }
    }
    sequence->reset();
    const int64_t n = tree->resume(prompt, *sequence).n_tokens;
    EXPECT_EQ(n_wrong(*sequence, prompt), 0);
    return n;
  }
  [[nodiscard]] std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    for (const auto& file : fs::directory_iterator(folder))
      if (file.path().extension() == ".kv") out.push_back(file.path());
    std::sort(out.begin(), out.end());
    return out;
  }

  fs::path folder;
  std::shared_ptr<PagePool> pool;
  std::unique_ptr<PrefixTree> tree;
  std::unique_ptr<Sequence> sequence;
  std::unique_ptr<DiskCache> disk;
  std::vector<std::string> lines;
};

TEST_F(DiskCacheTest, FindsAConversationAfterARestart) {
  restart();
  const Ids system = text(150, 1), one = joined(system, text(90, 2)), other = joined(system, text(50, 3));
  const std::vector<float> logits(kVocab, 0.25f);
  EXPECT_TRUE(save(system));
  EXPECT_TRUE(save(one, logits));
  EXPECT_TRUE(save(other));
  EXPECT_FALSE(save(one, logits)) << "it is there";
  EXPECT_FALSE(save(one));
  for (int round = 0; round < 2; ++round) {
    restart();
    EXPECT_EQ(disk->statistics().entries, 3);
    EXPECT_EQ(bring(one), 240) << "all of it, for its logits are there";
    EXPECT_EQ(bring(other), 150) << "no logits";
    EXPECT_EQ(bring(joined(other, {5})), 200);
    EXPECT_EQ(bring(joined(system, {5})), 150);
    EXPECT_EQ(bring({system.begin(), system.begin() + 149}), 0);
    EXPECT_EQ(bring(text(30, 9)), 0);
  }
  EXPECT_TRUE(lines.empty()) << lines.front();
}

TEST_F(DiskCacheTest, PagesAreWrittenOnce) {
  restart();
  Ids tokens = text(640, 1);
  ASSERT_TRUE(save(tokens));
  const int64_t first = disk->statistics().bytes;
  tokens = joined(tokens, text(64, 2));
  ASSERT_TRUE(save(tokens));
  const SnapshotFormat format = SnapshotFormat::of(*pool, 1, kVocab, 5000);
  EXPECT_LT(disk->statistics().bytes - first, format.state_bytes + 3 * format.page_bytes);
  restart();
  EXPECT_EQ(bring(joined(tokens, {1})), 704);
}

TEST_F(DiskCacheTest, WhatIsInMemoryIsNotReadAgain) {
  restart();
  const Ids tokens = text(640, 1);
  ASSERT_TRUE(save({tokens.begin(), tokens.begin() + 600}));
  ASSERT_TRUE(save(tokens));
  restart();
  EXPECT_EQ(bring({tokens.begin(), tokens.begin() + 601}), 600);
  const int64_t before = disk->statistics().read_bytes;
  EXPECT_EQ(bring(joined(tokens, {1})), 640);
  const SnapshotFormat format = SnapshotFormat::of(*pool, 1, kVocab, 5000);
  EXPECT_EQ(disk->statistics().read_bytes - before, format.page_bytes + format.state_bytes);
}

TEST_F(DiskCacheTest, TheLeastValuableGoesAndNeverWhatOthersNeed) {
  restart();
  const Ids system = text(128, 1);
  ASSERT_TRUE(save(system, {}, 10));
  const int64_t limit = 4 * disk->statistics().bytes;
  restart(limit);
  for (uint32_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(save(joined(system, text(10, 100 + i)), {}, i == 5 ? 1000 : 10)) << i;
    EXPECT_LE(disk->statistics().bytes, limit);
    EXPECT_EQ(bring(joined(system, {5})), 128) << "all others build on it";
  }
  EXPECT_EQ(bring(joined(joined(system, text(10, 105)), {5})), 138) << "worth the most";
  EXPECT_EQ(bring(joined(joined(system, text(10, 119)), {5})), 138) << "the latest";
  EXPECT_EQ(bring(joined(joined(system, text(10, 104)), {5})), 128);
  int64_t bytes = 0;
  for (const auto& file : files()) bytes += static_cast<int64_t>(fs::file_size(file));
  EXPECT_EQ(bytes, disk->statistics().bytes);
  restart(limit / 2);
  EXPECT_LE(disk->statistics().bytes, limit / 2);
  EXPECT_EQ(bring(joined(system, {5})), 128);
  restart(100);
  EXPECT_EQ(disk->statistics().entries, 0);
  EXPECT_FALSE(save(system));
  EXPECT_EQ(disk->statistics().lost_entries, 1);
}

TEST_F(DiskCacheTest, RandomConversationsOverRestarts) {
  std::mt19937 random(5);
  std::vector<Ids> saved;
  for (int round = 0; round < 60; ++round) {
    if (round % 15 == 0) restart(round < 30 ? 400'000 : 200'000);
    Ids tokens;
    if (!saved.empty() && random() % 4 != 0) tokens = saved[random() % saved.size()];
    tokens.resize(tokens.size() * (random() % 3 == 0 ? random() % 100 : 100) / 100);
    tokens = joined(tokens, text(1 + random() % 150, random()));
    if (tokens.size() > 1500) continue;
    bring(tokens);
    if (save(tokens, {}, static_cast<int64_t>(random() % 300))) {
      const Ids longer = joined(tokens, {1});
      EXPECT_EQ(disk->find(longer).n_tokens, std::ssize(tokens));
      saved.push_back(tokens);
    }
    EXPECT_LE(disk->statistics().bytes, 400'000);
  }
  restart();
  int64_t n_found = 0;
  for (const Ids& tokens : saved) n_found += bring(joined(tokens, {1})) >= std::ssize(tokens);
  EXPECT_GT(n_found, 3);
  EXPECT_TRUE(lines.empty()) << lines.front();
}

TEST_F(DiskCacheTest, ADamagedFileIsIgnoredWithOneLine) {
  restart();
  const Ids one = text(100, 1), more = joined(one, text(60, 2)), other = text(80, 3);
  ASSERT_TRUE(save(one));
  ASSERT_TRUE(save(more));
  ASSERT_TRUE(save(other));
  for (const fs::path& file : files()) {
    // The last byte belongs to a state, which is looked at only when it is needed.
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(-1, std::ios::end);
    stream.put('\x55');
  }
  restart();
  EXPECT_EQ(disk->statistics().entries, 3);
  EXPECT_EQ(bring(joined(other, {1})), 0);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("damaged"));
  EXPECT_EQ(bring(joined(other, {1})), 0);
  EXPECT_EQ(lines.size(), 1u) << "it is not looked for again";
  EXPECT_EQ(bring(joined(more, {1})), 0);
  EXPECT_TRUE(save(other)) << "it may be written anew";
  EXPECT_EQ(bring(joined(other, {1})), 80);
  lines.clear();
  for (const fs::path& file : files()) fs::resize_file(file, 70);
  std::ofstream(folder / "0123456789abcdef-0123456789abcdef.kv.12.partial") << "cut off";
  std::ofstream(folder / "0123456789abcdef-0123456789abcdef.kv") << "nonsense";
  std::ofstream(folder / "notes.txt") << "somebody's";
  restart();
  EXPECT_EQ(disk->statistics().entries, 0);
  EXPECT_EQ(lines.size(), files().size());
  EXPECT_TRUE(fs::exists(folder / "notes.txt"));
  EXPECT_FALSE(fs::exists(folder / "0123456789abcdef-0123456789abcdef.kv.12.partial"));
  restart(0);
  EXPECT_TRUE(files().empty()) << "their room was needed";
}

TEST_F(DiskCacheTest, FilesOfAnotherModelAreLeftAlone) {
  restart();
  const Ids tokens = text(100, 1);
  ASSERT_TRUE(save(tokens));
  restart(int64_t{1} << 30, 2);
  EXPECT_EQ(disk->find(joined(tokens, {1})).n_tokens, 0);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("1 files of another model"));
  ASSERT_TRUE(save(tokens));
  restart();
  EXPECT_EQ(bring(joined(tokens, {1})), 100);
  EXPECT_EQ(files().size(), 2u);
}

TEST_F(DiskCacheTest, OneProcessAtATimeAndForItsOwnerOnly) {
  restart();
  const auto second =
      DiskCache::open({.folder = folder, .format = SnapshotFormat::of(*pool, 1, kVocab, 5000)});
  ASSERT_FALSE(second.has_value());
  EXPECT_THAT(second.error().message, HasSubstr("in use by another process"));
  ASSERT_TRUE(save(text(10, 1)));
  struct stat status {};
  ASSERT_EQ(stat(folder.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  ASSERT_EQ(stat(files().at(0).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  std::ofstream(folder / "file") << "x";
  EXPECT_FALSE(DiskCache::open({.folder = folder / "file" / "below"}).has_value());
}

TEST_F(DiskCacheTest, WhatCannotBeWrittenIsSaidOnce) {
  restart();
  const Ids tokens = text(100, 1);
  ASSERT_TRUE(save(tokens));
  fs::rename(folder, folder.string() + ".away");
  EXPECT_FALSE(save(joined(tokens, {1, 2, 3})));
  EXPECT_FALSE(save(text(20, 4)));
  EXPECT_EQ(lines.size(), 1u);
  EXPECT_EQ(disk->statistics().lost_entries, 2);
  fs::rename(folder.string() + ".away", folder);
  EXPECT_TRUE(save(joined(tokens, {1, 2, 3})));
  EXPECT_EQ(disk->statistics().entries, 2);
}

TEST_F(DiskCacheTest, ErasesAConversationButNotWhatIsShared) {
  restart();
  const Ids system = text(100, 1), one = joined(system, text(60, 2)), other = joined(system, text(60, 3));
  for (const Ids& tokens : {system, one, other}) ASSERT_TRUE(save(tokens));
  disk->erase(one);
  EXPECT_EQ(files().size(), 2u);
  EXPECT_EQ(bring(joined(one, {1})), 100);
  EXPECT_EQ(bring(joined(other, {1})), 160);
  disk->erase(other);
  EXPECT_TRUE(files().empty());
}

}  // namespace
}  // namespace packmule::cache
