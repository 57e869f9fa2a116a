#include "base/file_map.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <string>

namespace packmule {
namespace {

TEST(FileMap, ShowsTheBytesOfAFile) {
  const std::string path = testing::TempDir() + "packmule_file_map";
  std::ofstream(path) << "mule";
  auto map = FileMap::open(path);
  ASSERT_TRUE(map.has_value()) << map.error().message;
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(map->bytes().data()), map->bytes().size()), "mule");
  FileMap moved = std::move(*map);
  EXPECT_EQ(moved.bytes().size(), 4u);
  std::remove(path.c_str());
}

TEST(FileMap, SaysWhichFileIsMissingOrWrong) {
  auto missing = FileMap::open("/nonexistent/model.gguf");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().message, "cannot open /nonexistent/model.gguf: No such file or directory");
  auto folder = FileMap::open("/");
  ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().kind, ErrorKind::kIo);
  const std::string path = testing::TempDir() + "packmule_named_pipe";
  std::remove(path.c_str());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  auto pipe = FileMap::open(path);  // nobody writes to it: it must not be waited for
  std::remove(path.c_str());
  ASSERT_FALSE(pipe.has_value());
  EXPECT_EQ(pipe.error().message, "cannot open " + path + ": expected a regular file");
}

TEST(FileMap, AdviceChangesNoByte) {
  const std::string path = testing::TempDir() + "packmule_advice";
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i) + "\n";
  std::ofstream(path) << text;
  const auto map = FileMap::open(path);
  ASSERT_TRUE(map.has_value());
  const size_t parts[][2] = {{0, text.size()},     {1, 5000}, {4095, 2}, {4096, 8192},
                             {text.size() - 1, 1}, {7, 0}};
  for (const auto& [begin, n] : parts) {
    FileMap::will_read(map->bytes().subspan(begin, n));
    FileMap::was_read(map->bytes().subspan(begin, n));
    ASSERT_EQ(std::memcmp(map->bytes().data(), text.data(), text.size()), 0) << begin << ", " << n;
  }
  std::remove(path.c_str());
}

}  // namespace
}  // namespace packmule
