#include "base/aligned.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace packmule {
namespace {

TEST(AlignedBuffer, IsZeroedAlignedAndWritable) {
  for (size_t size : {size_t{1}, size_t{4097}, size_t{3} << 20}) {
    auto buffer = AlignedBuffer::allocate(size, "a test");
    ASSERT_TRUE(buffer.has_value()) << buffer.error().message;
    EXPECT_EQ(buffer->size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % (size >= (2u << 20) ? 2u << 20 : 4096u), 0u);
    for (size_t i : {size_t{0}, size / 2, size - 1}) EXPECT_EQ(buffer->data()[i], std::byte{0});
    for (size_t i : {size_t{0}, size / 2, size - 1}) buffer->data()[i] = std::byte{7};
  }
}

TEST(AlignedBuffer, RefusesWhatCannotBeMapped) {
  auto buffer = AlignedBuffer::allocate(SIZE_MAX - 4096, "a test");
  ASSERT_FALSE(buffer.has_value());
  EXPECT_EQ(buffer.error().kind, ErrorKind::kOutOfMemory);
  EXPECT_NE(buffer.error().message.find("a test"), std::string::npos);
}

}  // namespace
}  // namespace packmule
