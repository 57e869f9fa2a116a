#include "gguf/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "gguf/raw_file_for_test.h"
#include "tests/support/test_data.h"

namespace packmule::gguf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;
namespace fs = std::filesystem;

TEST(File, ReadsKeysOfEveryType) {
  RawFile raw_file;
  raw_file.keys = {
      raw_key("u8", 0, raw(uint8_t{200})),
      raw_key("i8", 1, raw(int8_t{-100})),
      raw_key("u16", 2, raw(uint16_t{60000})),
      raw_key("i16", 3, raw(int16_t{-30000})),
      raw_key("u32", 4, raw(uint32_t{4000000000})),
      raw_key("i32", 5, raw(int32_t{-2000000000})),
      raw_key("f32", 6, raw(0.5f)),
      raw_key("yes", 7, raw(uint8_t{1})),
      raw_key("text", 8, raw_string("mule")),
      raw_key("u64", 10, raw(~uint64_t{0})),
      raw_key("i64", 11, raw(int64_t{-5})),
      raw_key("f64", 12, raw(0.1)),
      raw_key("none", 9, raw(uint32_t{8}) + raw(uint64_t{0})),
      raw_key("bools", 9, raw(uint32_t{7}) + raw(uint64_t{3}) + std::string("\1\0\1", 3)),
      raw_key("bytes", 9, raw(uint32_t{0}) + raw(uint64_t{2}) + "\xff\x01"),
      raw_key("huge", 9, raw(uint32_t{10}) + raw(uint64_t{1}) + raw(~uint64_t{0})),
      raw_key("words", 9, raw(uint32_t{8}) + raw(uint64_t{2}) + raw_string("pack") + raw_string("")),
      raw_key("halves", 9, raw(uint32_t{6}) + raw(uint64_t{2}) + raw(0.5f) + raw(-1.5f)),
  };
  const std::string bytes = raw_file.bytes();
  const auto file = File::parse(as_span(bytes), "m.gguf");
  ASSERT_TRUE(file) << file.error().message;

  EXPECT_EQ(file->get_u64("u8").value(), 200u);
  EXPECT_EQ(file->get_u64("u16").value(), 60000u);
  EXPECT_EQ(file->get_u64("u32").value(), 4000000000u);
  EXPECT_EQ(file->get_u64("u64").value(), ~uint64_t{0});
  EXPECT_EQ(file->get_f64("i8").value(), -100);
  EXPECT_EQ(file->get_f64("i16").value(), -30000);
  EXPECT_EQ(file->get_f64("i32").value(), -2000000000);
  EXPECT_EQ(file->get_f64("i64").value(), -5);
  EXPECT_EQ(file->get_f64("f32").value(), 0.5);
  EXPECT_EQ(file->get_f64("f64").value(), 0.1);
  EXPECT_TRUE(file->get_bool("yes").value());
  EXPECT_EQ(file->get_string("text").value(), "mule");
  EXPECT_THAT(file->get_strings("none").value(), ElementsAre());
  EXPECT_THAT(file->get_integers("bools").value(), ElementsAre(1, 0, 1));
  EXPECT_THAT(file->get_integers("bytes").value(), ElementsAre(255, 1));
  EXPECT_THAT(file->get_strings("words").value(), ElementsAre("pack", ""));
  EXPECT_THAT(std::get<std::vector<double>>(std::get<Array>(file->find("halves")->value).values),
              ElementsAre(0.5, -1.5));
  EXPECT_EQ(file->metadata().size(), 18u);
  EXPECT_EQ(file->metadata()[9].key, "u64");

  EXPECT_EQ(file->get_u64("i8").error().message,
            "m.gguf: key 'i8': expected an integer that is not negative, found -100");
  EXPECT_EQ(
      file->get_u64("gone").error().message,
      "m.gguf: key 'gone': expected an integer that is not negative, but the file does not have this key");
  EXPECT_EQ(file->get_string("u8").error().message, "m.gguf: key 'u8': expected a string, found a u8");
  EXPECT_EQ(file->get_strings("bools").error().message,
            "m.gguf: key 'bools': expected an array of strings, found an array of bool");
  EXPECT_EQ(file->get_integers("text").error().message,
            "m.gguf: key 'text': expected an array of integers, found the string 'mule'");
  EXPECT_THAT(file->get_integers("huge").error().message, HasSubstr("found 18446744073709551615"));
  EXPECT_FALSE(file->get_f64("text"));
  EXPECT_FALSE(file->get_bool("u8"));
  EXPECT_FALSE(file->has("gone"));
}

TEST(File, FindsTensorsAndTheirBytes) {
  for (const uint32_t version : {2u, 3u}) {
    RawFile raw_file;
    raw_file.version = version;
    const std::string bytes = raw_file.bytes();
    const auto file = File::parse(as_span(bytes), "m.gguf");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->version(), version);
    EXPECT_EQ(file->size_bytes(), bytes.size());
    ASSERT_EQ(file->tensors().size(), 2u);
    const TensorInfo* second = file->find_tensor("second");
    ASSERT_EQ(second, &file->tensors()[1]);
    EXPECT_EQ(second->n_dims, 2);
    EXPECT_THAT(second->ne, ElementsAre(8, 2, 1, 1));
    EXPECT_EQ(second->format->name, "F32");
    EXPECT_EQ(second->size_bytes, 64u);
    EXPECT_EQ(second->row_bytes(), 32);
    EXPECT_EQ(second->file_offset, bytes.size() - 64);
    EXPECT_EQ(*second->data, std::byte{32});
    EXPECT_EQ(file->find_tensor("third"), nullptr);
  }
}

TEST(File, AcceptsOddButSoundFiles) {
  RawFile bare;  // not even padding after the header
  bare.keys.clear();
  bare.tensors.clear();
  bare.alignment = 1;
  bare.data_bytes = 0;
  const std::string bare_bytes = bare.bytes();
  EXPECT_TRUE(File::parse(as_span(bare_bytes), "bare"));

  RawFile spaced;  // an own alignment, tensors out of order, with gaps, without padding at the end
  spaced.keys = {raw_key("general.alignment", 4, raw(uint32_t{8}))};
  spaced.alignment = 8;
  spaced.tensors = {{"late", {3}, 0, 40}, {"early", {2}, 0, 8}};
  spaced.data_bytes = 52;
  const std::string spaced_bytes = spaced.bytes();
  const auto file = File::parse(as_span(spaced_bytes), "spaced");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(*file->find_tensor("late")->data, std::byte{40});
  EXPECT_EQ(*file->find_tensor("early")->data, std::byte{8});

  RawFile merged;  // tools that join split files leave a count of 0 behind
  merged.keys = {raw_key("split.count", 2, raw(uint16_t{0}))};
  const std::string merged_bytes = merged.bytes();
  EXPECT_TRUE(File::parse(as_span(merged_bytes), "merged"));
}

TEST(File, SaysWhatCannotBeOpened) {
  const auto missing = File::open("/nonexistent/model.gguf");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kIo);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/model.gguf"));
  EXPECT_EQ(File::open("/").error().kind, ErrorKind::kIo);
}

TEST(File, OpensTheFilesOfTheTestData) {
  size_t n_files = 0;
  for (const char* folder : {"golden", "tokenizer"}) {
    const auto path = find_data(folder);
    if (!path) continue;
    for (const auto& entry : fs::directory_iterator(*path)) {
      if (entry.path().extension() != ".gguf") continue;
      SCOPED_TRACE(entry.path());
      ++n_files;
      const auto file = File::open(entry.path());
      ASSERT_TRUE(file) << file.error().message;
      EXPECT_EQ(file->size_bytes(), fs::file_size(entry.path()));
      EXPECT_GT(file->get_strings("tokenizer.ggml.tokens").value().size(), 0u);
      std::set<std::string_view> names;
      for (const TensorInfo& tensor : file->tensors()) {
        names.insert(tensor.name);
        EXPECT_EQ(file->find_tensor(tensor.name), &tensor);
        EXPECT_EQ(tensor.size_bytes,
                  static_cast<uint64_t>(tensor.row_bytes() * (tensor.n_elems() / tensor.ne[0])));
      }
      EXPECT_EQ(names.size(), file->tensors().size());
      if (std::string_view(folder) == "golden") {
        EXPECT_TRUE(names.contains("token_embd.weight"));
        EXPECT_EQ(file->find_tensor("token_embd.weight")->ne[0],
                  static_cast<int64_t>(file->get_u64("qwen3next.embedding_length").value()));
      }
    }
  }
  EXPECT_GE(n_files, 2u);
}

}  // namespace
}  // namespace packmule::gguf
