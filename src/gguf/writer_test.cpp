#include "gguf/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "gguf/split.h"
#include "tests/support/test_data.h"

namespace packmule::gguf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

/// A fresh folder of this test.
fs::path folder() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  const fs::path path = testing_support::generated_dir() / "gguf_writer" / info->name();
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::vector<std::byte> pattern(size_t n_bytes, int seed) {
  std::vector<std::byte> bytes(n_bytes);
  for (size_t i = 0; i < n_bytes; ++i) bytes[i] = static_cast<std::byte>(i * 31 + static_cast<size_t>(seed));
  return bytes;
}

std::vector<std::byte> bytes_of(const TensorInfo& tensor) {
  return {tensor.data, tensor.data + tensor.size_bytes};
}

/// Built one by one: as an initializer list of pairs of variants it takes g++ 12 minutes and gigabytes.
std::vector<std::pair<std::string, NewValue>> one_key_of_every_type() {
  std::vector<std::pair<std::string, NewValue>> keys;
  const auto add = [&](const char* key, NewValue value) { keys.emplace_back(key, std::move(value)); };
  add("u8", uint8_t{255});
  add("i8", int8_t{-128});
  add("u16", uint16_t{65535});
  add("i16", int16_t{-32768});
  add("u32", uint32_t{4294967295});
  add("i32", int32_t{-2147483647});
  add("f32", 1e-6f);
  add("bool", true);
  add("string", std::string("mule\0騾", 8));
  add("u64", ~uint64_t{0});
  add("i64", std::numeric_limits<int64_t>::min());
  add("f64", 0.1);
  add("u8s", std::vector<uint8_t>{0, 255});
  add("i8s", std::vector<int8_t>{-1, 127});
  add("u16s", std::vector<uint16_t>{1, 65535});
  add("i16s", std::vector<int16_t>{-2, 2});
  add("u32s", std::vector<uint32_t>{});
  add("i32s", std::vector<int32_t>{-3, 3});
  add("f32s", std::vector<float>{0.1f, -0.0f});
  add("bools", std::vector<bool>{true, false, true});
  add("strings", std::vector<std::string>{"", "pack", "mule"});
  add("u64s", std::vector<uint64_t>{~uint64_t{0}});
  add("i64s", std::vector<int64_t>{std::numeric_limits<int64_t>::min()});
  add("f64s", std::vector<double>{0.1, 1e300});
  return keys;
}

TEST(Writer, ReaderGetsBackEveryTypeOfValue) {
  const auto keys = one_key_of_every_type();
  Writer writer;
  for (const auto& [key, value] : keys) writer.set(key, value);
  const auto bytes = writer.bytes().value();
  const auto file = File::parse(bytes, "m.gguf");
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->metadata().size(), keys.size());
  for (size_t i = 0; i < file->metadata().size(); ++i) {
    const auto& [key, value] = keys[i];
    EXPECT_EQ(file->metadata()[i].key, key);
    EXPECT_TRUE(copy_value(file->metadata()[i].value) == value) << key;
  }
  EXPECT_EQ(std::get<uint64_t>(file->find("u8")->value), 255u);
  EXPECT_EQ(std::get<int64_t>(file->find("i64")->value), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(file->get_string("string").value().size(), 8u);
}

TEST(Writer, ReaderGetsBackTensorsOfEveryFormat) {
  Writer writer;
  writer.set("general.alignment", uint32_t{128});
  std::vector<std::vector<std::byte>> contents;
  for (const quant::Format& format : quant::formats())
    contents.push_back(
        pattern(static_cast<size_t>(3 * 2 * 5 * format.block_bytes), static_cast<int>(format.type)));
  size_t i = 0;
  for (const quant::Format& format : quant::formats())
    writer.add_tensor(std::string(format.name), {3 * format.block_elems, 2, 1, 5}, format.type,
                      contents[i++]);
  const auto bytes = writer.bytes().value();
  EXPECT_EQ(bytes.size() % 128, 0u);
  const auto file = File::parse(bytes, "m.gguf");
  ASSERT_TRUE(file) << file.error().message;
  i = 0;
  for (const quant::Format& format : quant::formats()) {
    const TensorInfo& tensor = file->tensors()[i];
    EXPECT_EQ(tensor.name, format.name);
    EXPECT_EQ(tensor.format, &format);
    EXPECT_THAT(tensor.ne, ElementsAre(3 * format.block_elems, 2, 1, 5));
    EXPECT_EQ(tensor.n_dims, 4);
    EXPECT_EQ(tensor.file_offset % 128, 0u);
    EXPECT_EQ(bytes_of(tensor), contents[i]);
    ++i;
  }
}

TEST(Writer, CopiesAFileByteForByte) {
  size_t n_files = 0;
  for (const auto& entry : fs::directory_iterator(testing_support::find_data("golden").value())) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path());
    ++n_files;
    const auto file = File::open(entry.path()).value();
    Writer writer;
    for (const KeyValue& key : file.metadata()) writer.set(std::string(key.key), copy_value(key.value));
    for (const TensorInfo& tensor : file.tensors())
      writer.add_tensor(std::string(tensor.name), {tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims},
                        tensor.format->type, std::span(tensor.data, tensor.size_bytes));
    const fs::path copy_path = folder() / "copy.gguf";
    ASSERT_TRUE(writer.write(copy_path));
    EXPECT_TRUE(testing_support::read_file(copy_path) == testing_support::read_file(entry.path()));
  }
  EXPECT_GE(n_files, 1u);
}

TEST(Writer, StreamsATensorByWholeBlocks) {
  const quant::Format& format = quant::format_of(quant::Type::kQ6_K);  // 210 bytes: no divisor of a chunk
  const int64_t n_blocks = 120'000;                                    // 25 MB, several chunks
  const std::vector<std::byte> all = pattern(static_cast<size_t>(n_blocks * format.block_bytes), 7);
  std::vector<uint64_t> offsets;
  Writer writer;
  writer.add_tensor("small", {4}, quant::Type::kF32, std::span(all).first(16));
  writer.add_tensor("streamed", {256 * n_blocks}, format.type,
                    [&](uint64_t offset, std::span<std::byte> out) {
                      EXPECT_EQ(offset % 210, 0u);
                      EXPECT_EQ(out.size() % 210, 0u);
                      offsets.push_back(offset);
                      std::copy_n(all.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
                      return Status();
                    });
  const std::string path = folder() / "streamed.gguf";
  ASSERT_TRUE(writer.write(path));
  EXPECT_GT(offsets.size(), 2u);
  EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end()));
  const auto file = File::open(path).value();
  EXPECT_TRUE(bytes_of(*file.find_tensor("streamed")) == all);
}

TEST(Writer, LeavesNothingBehindWhenItFails) {
  const fs::path where = folder();
  const std::string path = where / "m.gguf";
  Writer old;
  old.set("which", std::string("old"));
  ASSERT_TRUE(old.write(path));
  Writer failing;
  failing.add_tensor("t", {8}, quant::Type::kF32, [](uint64_t, std::span<std::byte>) -> Status {
    return fail(ErrorKind::kCancelled, "stopped");
  });
  EXPECT_EQ(failing.write(path).error().kind, ErrorKind::kCancelled);
  EXPECT_FALSE(failing.write_split((where / "split").string(), {}));
  EXPECT_EQ(std::distance(fs::directory_iterator(where), {}), 1);
  EXPECT_EQ(File::open(path)->get_string("which").value(), "old");

  const Status nowhere = old.write((where / "missing" / "m.gguf").string());
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().kind, ErrorKind::kIo);
  EXPECT_THAT(nowhere.error().message, HasSubstr("missing/m.gguf: No such file or directory"));
}

TEST(Writer, RefusesWhatTheReaderWouldRefuse) {
  const std::vector<std::byte> data = pattern(64, 0);
  const auto error_of = [&](const std::function<void(Writer&)>& spoil) {
    Writer writer;
    writer.add_tensor("sound", {16}, quant::Type::kF32, data);
    spoil(writer);
    const auto bytes = writer.bytes();
    return bytes ? std::string("none") : bytes.error().message;
  };
  const auto f32 = quant::Type::kF32;
  EXPECT_EQ(error_of([](Writer&) {}), "none");
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("sound", {16}, f32, data); }), HasSubstr("added twice"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("", {16}, f32, data); }), HasSubstr("1 to 64 bytes"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor(std::string(65, 'n'), {16}, f32, data); }),
              HasSubstr("1 to 64 bytes"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("\xff", {16}, f32, data); }), HasSubstr("'\\xff'"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("t", {}, f32, data); }), HasSubstr("found 0"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("t", {1, 1, 1, 1, 16}, f32, data); }),
              HasSubstr("found 5"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("t", {16, 0}, f32, data); }),
              HasSubstr("dimension of 0"));
  EXPECT_THAT(
      error_of([&](Writer& w) { w.add_tensor("t", {int64_t{1} << 40, int64_t{1} << 40}, f32, data); }),
      HasSubstr("out of range"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("t", {15}, f32, data); }),
              HasSubstr("expected 60 bytes of data, found 64"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("t", {33}, quant::Type::kQ8_0, data); }),
              HasSubstr("multiple of 32 weights"));
  EXPECT_THAT(error_of([&](Writer& w) { w.add_tensor("t", {16}, static_cast<quant::Type>(4), data); }),
              HasSubstr("type id 4"));
  EXPECT_THAT(error_of([](Writer& w) { w.set("", true); }), HasSubstr("cannot write key ''"));
  EXPECT_THAT(error_of([](Writer& w) { w.set("general.alignment", uint32_t{48}); }),
              HasSubstr("power of two"));
  EXPECT_THAT(error_of([](Writer& w) { w.set("general.alignment", uint64_t{32}); }), HasSubstr("a u32"));
  EXPECT_EQ(error_of([](Writer& w) {
              w.set("general.alignment", uint32_t{48});
              w.remove("general.alignment");
            }),
            "none");
}

// ---- split files ----

class SplitFiles : public testing::Test {
 protected:
  SplitFiles() : where(folder()), data(pattern(64 * 5, 3)) {
    writer.set("name", std::string("split"));
    writer.set("general.alignment", uint32_t{64});
    for (size_t i = 0; i < 5; ++i)
      writer.add_tensor(fmt::format("t{}", i), {16}, quant::Type::kF32, std::span(data).subspan(64 * i, 64));
  }
  std::string path(int number, int count) const { return split_path((where / "m").string(), number, count); }
  std::vector<std::string> write(const SplitLimits& limits) const {
    return writer.write_split((where / "m").string(), limits).value();
  }
  std::string error(int number, int count) const {
    const auto file = File::open(path(number, count));
    return file ? "none" : file.error().message;
  }

  fs::path where;
  std::vector<std::byte> data;
  Writer writer;
};

TEST_F(SplitFiles, AreReadAsOne) {
  const struct {
    SplitLimits limits;
    int count;
  } cases[] = {{{}, 1},
               {{.max_tensors = 2}, 3},
               {{.max_bytes = 64}, 5},
               {{.max_bytes = 200}, 2},
               {{.max_bytes = 1}, 5}};
  for (const auto& c : cases) {
    const auto paths = write(c.limits);
    ASSERT_EQ(paths.size(), static_cast<size_t>(c.count));
    EXPECT_EQ(paths.front(), path(1, c.count));
    const auto file = File::open(paths.front());
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->n_shards(), c.count);
    EXPECT_EQ(file->get_string("name").value(), "split");
    ASSERT_EQ(file->tensors().size(), 5u);
    uint64_t size_bytes = 0;
    for (const std::string& p : paths) size_bytes += fs::file_size(p);
    EXPECT_EQ(file->size_bytes(), size_bytes);
    for (size_t i = 0; i < 5; ++i) {
      const TensorInfo& tensor = file->tensors()[i];
      EXPECT_EQ(tensor.name, fmt::format("t{}", i));
      EXPECT_TRUE(std::equal(tensor.data, tensor.data + 64, data.begin() + static_cast<ptrdiff_t>(64 * i)));
      const std::string shard = testing_support::read_file(file->shard_path(tensor.shard));
      EXPECT_EQ(std::memcmp(shard.data() + tensor.file_offset, tensor.data, 64), 0);
    }
  }
}

TEST_F(SplitFiles, SayWhichFileIsToBeOpened) {
  write({.max_tensors = 2});
  const auto second = File::open(path(2, 3));
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message,
              HasSubstr("this is file 2 of 3 of a split model; open the first, " + path(1, 3)));
  fs::copy_file(path(3, 3), where / "renamed.gguf");
  EXPECT_THAT(File::open((where / "renamed.gguf").string()).error().message,
              HasSubstr("open the first, which ends in -00001-of-00003.gguf"));
  fs::copy_file(path(1, 3), where / "renamed_first.gguf");
  EXPECT_THAT(File::open((where / "renamed_first.gguf").string()).error().message,
              HasSubstr("its name must end in -00001-of-00003.gguf"));
  const std::string bytes = testing_support::read_file(path(1, 3));
  EXPECT_THAT(File::parse(std::as_bytes(std::span(bytes)), "memory").error().message,
              HasSubstr("file 1 of 3 of a split model; open it by its path"));
}

TEST_F(SplitFiles, NameTheOneThatIsMissingOrWrong) {
  write({.max_tensors = 2});
  fs::rename(path(2, 3), where / "aside");
  EXPECT_THAT(error(1, 3),
              HasSubstr("file 2 of 3 of this split model is missing: cannot open " + path(2, 3)));
  fs::copy_file(path(3, 3), path(2, 3));
  EXPECT_THAT(error(1, 3), HasSubstr(path(2, 3) + ": expected file 2 of 3"));
  EXPECT_THAT(error(1, 3), HasSubstr("found keys of file 3 of 3"));
  fs::remove(path(2, 3));
  fs::rename(where / "aside", path(2, 3));
  EXPECT_EQ(error(1, 3), "none");

  fs::resize_file(path(3, 3), fs::file_size(path(3, 3)) - 64);
  EXPECT_THAT(error(1, 3), HasSubstr(path(3, 3) + ": tensor 't4'"));

  Writer single;  // not split at all
  ASSERT_TRUE(single.write(path(3, 3)));
  EXPECT_THAT(error(1, 3), HasSubstr(path(3, 3) + ": expected file 3 of 3"));
}

TEST_F(SplitFiles, OfAnotherModelAreRefused) {
  write({.max_tensors = 3});
  const std::string mine = testing_support::read_file(path(1, 2));
  // The same number of files, but other tensors in all.
  writer.add_tensor("t5", {16}, quant::Type::kF32, std::span(data).first(64));
  write({.max_tensors = 3});
  fs::remove(path(1, 2));
  std::ofstream(path(1, 2), std::ios::binary) << mine;
  EXPECT_THAT(error(1, 2), HasSubstr(path(2, 2) + ": expected file 2 of 2 (5 tensors in all)"));

  // The same numbers, and a name that is already taken.
  Writer other;
  other.set("general.alignment", uint32_t{64});
  for (const char* name : {"a", "b", "c", "d", "t1"})
    other.add_tensor(name, {16}, quant::Type::kF32, std::span(data).first(64));
  ASSERT_TRUE(other.write_split((where / "m").string(), {.max_tensors = 3}));
  std::ofstream(path(1, 2), std::ios::binary) << mine;
  EXPECT_THAT(error(1, 2),
              HasSubstr(path(2, 2) + ": tensor 't1': expected every name once, found it in " + path(1, 2)));
}

TEST(SplitName, IsTakenApart) {
  const auto name = parse_split_name("dir/qwen-00002-of-00013.gguf");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->prefix, "dir/qwen");
  EXPECT_EQ(name->number, 2);
  EXPECT_EQ(name->count, 13);
  EXPECT_EQ(split_path(name->prefix, 2, 13), "dir/qwen-00002-of-00013.gguf");
  for (const char* no : {"qwen.gguf", "q-0002-of-00013.gguf", "q-00002-of-00013", "q-00000-of-00013.gguf",
                         "q-00014-of-00013.gguf", "q-0000a-of-00013.gguf", "-of-00013.gguf", ".gguf", ""})
    EXPECT_FALSE(parse_split_name(no)) << no;
}

}  // namespace
}  // namespace packmule::gguf
