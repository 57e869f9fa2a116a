#include "base/file_map.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

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

}  // namespace
}  // namespace packmule
