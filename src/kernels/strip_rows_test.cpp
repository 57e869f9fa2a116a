// Matrices to rows, whatever their number, their size against what a thread copies at once, and their layout.
#include "kernels/strip_rows.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/cpu.h"
#include "kernels/kernels.h"
#include "kernels/strip_layout.h"

namespace packmule::kernels {
namespace {

struct Shape {
  quant::Type type;
  int64_t n_rows, n_cols, n;
};

std::vector<std::byte> some_bytes(int64_t n) {
  std::vector<std::byte> bytes(static_cast<size_t>(n));
  std::minstd_rand random(7);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

TEST(RowCopier, CopiesEveryByteOnce) {
  ThreadPool pool(3);
  constexpr int64_t kGap = 36;  // behind each matrix, which is to stay as it is
  for (const Shape& shape : {Shape{quant::Type::kF32, 1, 3, 1}, Shape{quant::Type::kQ6_K, 32, 256, 5},
                             Shape{quant::Type::kQ8_0, 512, 2048, 3}, Shape{quant::Type::kF32, 64, 512, 2}}) {
    const RowCopier copier(shape.type, shape.n_rows, shape.n_cols, false, pool.n_threads());
    const int64_t bytes = copier.matrix_bytes(), from_stride = bytes + 4, to_stride = bytes + kGap;
    ASSERT_EQ(bytes, shape.n_rows * quant::row_bytes(quant::format_of(shape.type), shape.n_cols));
    const auto from = some_bytes(shape.n * from_stride);
    std::vector<std::byte> to(static_cast<size_t>(shape.n * to_stride), std::byte{0xee});
    copier.copy(pool, from.data(), from_stride, shape.n, to.data(), to_stride);
    for (int64_t i = 0; i < shape.n; ++i) {
      EXPECT_EQ(
          std::memcmp(to.data() + i * to_stride, from.data() + i * from_stride, static_cast<size_t>(bytes)),
          0);
      for (int64_t at = bytes; at < to_stride; ++at)
        ASSERT_EQ(to[static_cast<size_t>(i * to_stride + at)], std::byte{0xee});
    }
  }
}

TEST(RowCopier, TurnsStripsIntoRows) {
  if (!isa_usable(Isa::kAvx2)) GTEST_SKIP() << "needs AVX2";
  ThreadPool pool(2);
  for (const Shape& shape : {Shape{quant::Type::kQ4_K, 48, 512, 3}, Shape{quant::Type::kQ3_K, 16, 256, 1},
                             Shape{quant::Type::kQ8_0, 512, 96, 2}}) {
    const Matmul& matmul = kernels_for(Isa::kAvx2).matmul[static_cast<size_t>(shape.type)];
    const RowCopier copier(shape.type, shape.n_rows, shape.n_cols, true, pool.n_threads());
    const int64_t bytes = copier.matrix_bytes(), row_bytes = bytes / shape.n_rows;
    const auto rows = some_bytes(shape.n * bytes);
    std::vector<std::byte> strips(rows.size()), back(rows.size());
    for (int64_t row = 0; row < shape.n * shape.n_rows; row += kStripRows)
      matmul.interleave(rows.data() + row * row_bytes, row_bytes, shape.n_cols,
                        strips.data() + row * row_bytes);
    copier.copy(pool, strips.data(), bytes, shape.n, back.data(), bytes);
    EXPECT_EQ(back, rows) << quant::format_of(shape.type).name;
  }
}

}  // namespace
}  // namespace packmule::kernels
