// Every matmul of every usable instruction set, against ref and against the float64 dot products of
// tests/data/quants. Tests are named VARIANT_FORMAT, so that a filter picks an instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/strip_rows.h"
#include "quant/reference_data_for_test.h"

namespace packmule::kernels {
namespace {

using quant::Format;

// Float accumulation of products that are right to 2^-24 each: README.md of tests/data/quants gives this
// bound for float kernels. The kernels here stay two orders of magnitude below it.
constexpr double kTolerance = 1e-5;
constexpr float kGuard = -7.25e33f;
constexpr int64_t kGuards = 9;

/// Memory of exactly this size from the heap, aligned for any block: AddressSanitizer sees a byte too far.
template <class T>
std::unique_ptr<T[]> exact(int64_t n) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(n)]);
}

/// Blocks of a format to draw weights from: the reference file, or random numbers for F32, which has none.
std::string sample_blocks(const Format& format) {
  if (format.type != quant::Type::kF32) return quant::reference_bytes(std::string(format.name) + ".blocks");
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::string bytes(8192 * sizeof(float), '\0');
  for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
    const float value = normal(random);
    std::memcpy(bytes.data() + i, &value, sizeof value);
  }
  return bytes;
}

/// Those blocks without the ones whose products would overflow a float (random bits make such BF16 numbers).
std::vector<std::string> moderate_blocks(const Format& format) {
  const std::string sample = sample_blocks(format);
  const std::vector<float> decoded = quant::decode_all(format, sample);
  std::vector<std::string> blocks;
  for (size_t i = 0; i < sample.size() / format.block_bytes; ++i) {
    const auto first = decoded.begin() + static_cast<ptrdiff_t>(i * format.block_elems);
    if (std::all_of(first, first + format.block_elems, [](float weight) { return std::abs(weight) < 1e30f; }))
      blocks.push_back(sample.substr(i * format.block_bytes, format.block_bytes));
  }
  return blocks;
}

/// A row of activations in quantized form, with what that form stands for.
struct QuantizedStorage {
  QuantizedStorage(const float* x, int64_t n) : groups(exact<QuantizedGroup>(n / kQuantizedGroup)) {
    kernels_for(Isa::kRef).quantize(x, n, groups.get());
    for (int64_t c = 0; c < n; ++c) {
      const QuantizedGroup& group = groups[c / kQuantizedGroup];
      values.push_back(group.scale * static_cast<float>(group.codes[c % kQuantizedGroup]));
    }
  }

  std::unique_ptr<QuantizedGroup[]> groups;
  std::vector<float> values;
};

/// A matrix, activations and room for the results; the activations are such that both of their forms say the
/// same, so that exact kernels and those that take the quantized form have the same results. run() does one
/// call and gives y as [n_tokens][n_rows].
class Problem {
 public:
  Problem(const Format& format, int64_t n_rows, int64_t n_cols, int64_t n_tokens)
      : format_(format), n_rows_(n_rows), n_cols_(n_cols), n_tokens_(n_tokens) {
    row_bytes_ = quant::row_bytes(format, n_cols);
    weights_ = exact<uint8_t>(std::max<int64_t>(1, n_rows * row_bytes_));
    const std::vector<std::string> sample = moderate_blocks(format);
    const auto n_blocks = static_cast<int64_t>(sample.size());
    for (int64_t i = 0; i < n_rows * n_cols / format.block_elems; ++i)
      std::memcpy(weights_.get() + i * format.block_bytes, sample[(i * 7 + i / n_blocks) % n_blocks].data(),
                  format.block_bytes);
    std::mt19937 random(static_cast<uint32_t>(n_rows * 131 + n_cols));
    std::normal_distribution<float> normal(0.0f, 1.3f);
    for (int64_t t = 0; t < n_tokens; ++t) {
      tokens_.push_back(exact<float>(n_cols));
      x_.push_back(tokens_.back().get());
      for (int64_t c = 0; c < n_cols; ++c) tokens_.back()[c] = normal(random) * (c % 97 == 0 ? 20.0f : 1.0f);
      if (n_cols % kQuantizedGroup != 0) continue;
      stored_.emplace_back(x_.back(), n_cols);
      std::copy(stored_.back().values.begin(), stored_.back().values.end(), tokens_.back().get());
      quantized_.push_back(stored_.back().groups.get());
    }
    scratch_ = exact<float>(matmul_scratch_floats(n_cols));
  }

  /// Interleaves what fills whole strips; run_strips() can be called after it.
  void interleave(const Matmul& matmul) {
    strips_ = exact<uint8_t>(std::max<int64_t>(1, n_rows_ * row_bytes_));
    for (int64_t row = 0; row + kStripRows <= n_rows_; row += kStripRows)
      matmul.interleave(weights_.get() + row * row_bytes_, row_bytes_, n_cols_,
                        strips_.get() + row * row_bytes_);
  }

  std::vector<float> run_strips(const Matmul& matmul, int64_t row_begin, int64_t row_end, int64_t n_tokens) {
    return call(matmul.strips, strips_.get(), row_begin, row_end, n_tokens, 1.0f);
  }

  /// Fails the test when anything but the asked-for rows of the asked-for tokens is written.
  std::vector<float> run(MatmulFn matmul, int64_t row_begin, int64_t row_end, int64_t n_tokens,
                         float scale = 1.0f) {
    return call(matmul, weights_.get(), row_begin, row_end, n_tokens, scale);
  }

  /// sum_c |W[r][c] * x[t][c]| as [n_tokens][n_rows], the measure of a tolerance.
  [[nodiscard]] std::vector<double> abs_sums() const {
    std::vector<double> sums(n_tokens_ * n_rows_);
    std::vector<float> row(n_cols_);
    for (int64_t r = 0; r < n_rows_; ++r) {
      format_.decode(weights_.get() + r * row_bytes_, row.data(), n_cols_);
      for (int64_t t = 0; t < n_tokens_; ++t)
        for (int64_t c = 0; c < n_cols_; ++c)
          sums[t * n_rows_ + r] += std::abs(static_cast<double>(row[c]) * static_cast<double>(x_[t][c]));
    }
    return sums;
  }

  [[nodiscard]] int64_t n_rows() const { return n_rows_; }

 private:
  std::vector<float> call(MatmulFn matmul, const uint8_t* weights, int64_t row_begin, int64_t row_end,
                          int64_t n_tokens, float scale) {
    std::vector<std::vector<float>> rows(n_tokens, std::vector<float>(n_rows_ + 2 * kGuards, kGuard));
    std::vector<float*> y;
    for (auto& row : rows) y.push_back(row.data() + kGuards);
    std::fill_n(scratch_.get(), matmul_scratch_floats(n_cols_), std::numeric_limits<float>::quiet_NaN());
    matmul({.weights = weights,
            .row_bytes = row_bytes_,
            .row_begin = row_begin,
            .row_end = row_end,
            .n_cols = n_cols_,
            .x = x_.data(),
            .quantized = quantized_.data(),
            .y = y.data(),
            .n_tokens = n_tokens,
            .scale = scale,
            .scratch = scratch_.get()});
    std::vector<float> result;
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t r = -kGuards; r < n_rows_ + kGuards; ++r) {
        const bool asked = r >= row_begin && r < row_end;
        if (!asked && y[t][r] != kGuard) ADD_FAILURE() << "wrote row " << r << " of token " << t;
      }
      result.insert(result.end(), y[t], y[t] + n_rows_);
    }
    return result;
  }

  const Format& format_;
  int64_t n_rows_, n_cols_, n_tokens_, row_bytes_;
  std::unique_ptr<uint8_t[]> weights_;
  std::vector<std::unique_ptr<float[]>> tokens_;
  std::vector<const float*> x_;
  std::vector<QuantizedStorage> stored_;
  std::vector<const QuantizedGroup*> quantized_;
  std::unique_ptr<uint8_t[]> strips_;
  std::unique_ptr<float[]> scratch_;
};

class MatmulTest : public ::testing::TestWithParam<std::tuple<Isa, size_t>> {
 protected:
  void SetUp() override {
    const Isa isa = std::get<0>(GetParam());
    format_ = &quant::formats()[std::get<1>(GetParam())];
    if (!isa_usable(isa))
      GTEST_SKIP() << "this processor or system has no usable " << isa_name(isa) << ": not tested here";
    kernels_ = &kernels_for(isa);
    matmul_ = &kernels_->matmul[static_cast<size_t>(format_->type)];
    ASSERT_NE(matmul_->rows, nullptr);
    ref_ = kernels_for(Isa::kRef).matmul[static_cast<size_t>(format_->type)].rows;
    ASSERT_NE(ref_, nullptr);
  }

  /// 1, 2, 3, 5, 7 blocks and more than one or two of the kernels' column blocks of 512; odd ones where a row
  /// may end anywhere.
  [[nodiscard]] std::vector<int64_t> column_counts() const {
    if (format_->block_elems == 1) return {1, 31, 33, 257, 511, 513, 1031};
    std::vector<int64_t> counts = {1, 2, 3, 5, 7};
    if (format_->block_elems < 256) counts.insert(counts.end(), {17, 37});
    for (int64_t& count : counts) count *= format_->block_elems;
    return counts;
  }

  const Format* format_ = nullptr;
  const Kernels* kernels_ = nullptr;
  const Matmul* matmul_ = nullptr;
  MatmulFn ref_ = nullptr;
};

TEST_P(MatmulTest, AgreesWithRef) {
  constexpr int64_t kMaxTokens = 64;
  for (const int64_t n_cols : column_counts()) {
    // Whole strips, pairs of them, panels of decoded rows, and rows that are left over.
    Problem problem(*format_, 101, n_cols, kMaxTokens);
    const int64_t n_rows = problem.n_rows();
    const std::vector<float> expected = problem.run(ref_, 0, n_rows, kMaxTokens);
    const std::vector<double> abs_sums = problem.abs_sums();
    for (const int64_t rows : {0, 1, 3, 5, 7, 11, 13, 15, 16, 17, 31, 33, 95, 97, 101}) {
      for (const int64_t n_tokens : {0, 1, 2, 3, 5, 8, 9, 13, 64}) {
        const std::vector<float> got = problem.run(matmul_->rows, 0, rows, n_tokens);
        for (int64_t t = 0; t < n_tokens; ++t)
          for (int64_t r = 0; r < rows; ++r) {
            const int64_t i = t * n_rows + r;
            const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
            ASSERT_LE(error, kTolerance * abs_sums[i])
                << n_cols << " columns, " << rows << " rows, " << n_tokens << " tokens: row " << r
                << " of token " << t << " is " << got[i] << " instead of " << expected[i];
          }
      }
    }
  }
}

// More columns, and then more tokens, than a kernel works on at once.
TEST_P(MatmulTest, AgreesWithRefOnLongRowsAndManyTokens) {
  const std::pair<int64_t, int64_t> shapes[] = {{8192 + 256, 3}, {256, 301}};
  for (const auto& [n_cols, n_tokens] : shapes) {
    Problem problem(*format_, 35, n_cols, n_tokens);
    const std::vector<float> expected = problem.run(ref_, 0, 35, n_tokens);
    const std::vector<double> abs_sums = problem.abs_sums();
    for (const int64_t n : {int64_t{1}, n_tokens}) {
      const std::vector<float> got = problem.run(matmul_->rows, 0, 35, n);
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_LE(std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])),
                  kTolerance * abs_sums[i])
            << n_cols << " columns, " << n << " tokens, element " << i;
    }
  }
}

TEST_P(MatmulTest, SameBitsForAnyRowsAndTokens) {
  constexpr int64_t kRows = 67, kTokens = 13;
  for (const int64_t n_cols : {column_counts().front(), column_counts().back()}) {
    Problem problem(*format_, kRows, n_cols, kTokens);
    const std::vector<float> all = problem.run(matmul_->rows, 0, kRows, kTokens);
    const std::pair<int64_t, int64_t> ranges[] = {{0, kRows}, {0, 1},   {1, 2},  {2, 5},
                                                  {3, 37},    {36, 66}, {66, 67}};
    for (const auto& [begin, end] : ranges) {
      for (const int64_t n_tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}) {
        const std::vector<float> some = problem.run(matmul_->rows, begin, end, n_tokens);
        for (int64_t t = 0; t < n_tokens; ++t)
          ASSERT_EQ(
              std::memcmp(&some[t * kRows + begin], &all[t * kRows + begin], (end - begin) * sizeof(float)),
              0)
              << n_cols << " columns, rows " << begin << " to " << end << ", token " << t << " of "
              << n_tokens;
      }
    }
  }
}

TEST_P(MatmulTest, SameBitsInStrips) {
  ASSERT_EQ(matmul_->strips != nullptr, matmul_->interleave != nullptr);
  if (matmul_->strips == nullptr) return;  // which formats must have them: MatmulTable below
  constexpr int64_t kRows = 5 * kStripRows, kTokens = 139;
  for (const int64_t n_cols : {column_counts().front(), column_counts().back()}) {
    Problem problem(*format_, kRows, n_cols, kTokens);
    problem.interleave(*matmul_);
    const std::vector<float> all = problem.run(matmul_->rows, 0, kRows, kTokens);
    const std::pair<int64_t, int64_t> ranges[] = {{0, kRows}, {0, 16}, {16, 64}, {64, 80}};
    for (const auto& [begin, end] : ranges) {
      for (const int64_t n_tokens : {1, 2, 3, 4, 6, 9, 13, 139}) {
        const std::vector<float> some = problem.run_strips(*matmul_, begin, end, n_tokens);
        for (int64_t t = 0; t < n_tokens; ++t)
          ASSERT_EQ(
              std::memcmp(&some[t * kRows + begin], &all[t * kRows + begin], (end - begin) * sizeof(float)),
              0)
              << n_cols << " columns, rows " << begin << " to " << end << ", token " << t << " of "
              << n_tokens;
      }
    }
  }
}

// Instructions that multiply faster must not change a bit: a machine's processor does not decide what is
// said.
TEST_P(MatmulTest, SameBitsAsTheVariantItGrewFrom) {
  const Isa isa = std::get<0>(GetParam());
  if (isa != Isa::kAvxVnni && isa != Isa::kAmx) return;
  const Isa older = isa == Isa::kAvxVnni ? Isa::kAvx2 : Isa::kAvx512;
  const MatmulFn expected = kernels_for(older).matmul[static_cast<size_t>(format_->type)].rows;
  constexpr int64_t kRows = 67, kTokens = 43;
  for (const int64_t n_cols : column_counts()) {
    Problem problem(*format_, kRows, n_cols, kTokens);
    for (const int64_t n_tokens : {1, 4, 8, 9, 16, 17, 24, 43}) {
      const std::vector<float> got = problem.run(matmul_->rows, 0, kRows, n_tokens);
      const std::vector<float> old = problem.run(expected, 0, kRows, n_tokens);
      ASSERT_EQ(std::memcmp(got.data(), old.data(), got.size() * sizeof(float)), 0)
          << n_cols << " columns, " << n_tokens << " tokens";
    }
  }
}

// strip_layout.h says where every byte goes.
TEST_P(MatmulTest, InterleavesAsDrawn) {
  if (matmul_->interleave == nullptr) return;
  const StripLayout layout = strip_layout(format_->type);
  ASSERT_EQ(4 * layout.n_dwords + layout.odd_bytes, format_->block_bytes);
  for (const int64_t n_blocks : {1, 2, 5}) {
    const int64_t row_bytes = n_blocks * format_->block_bytes;
    const auto rows = exact<uint8_t>(kStripRows * row_bytes);
    std::mt19937 random(5);
    for (int64_t i = 0; i < kStripRows * row_bytes; ++i) rows[i] = static_cast<uint8_t>(random());
    std::vector<uint8_t> expected;
    const auto take = [&](int64_t block, int64_t at, int64_t n) {
      for (int64_t r = 0; r < kStripRows; ++r) {
        const uint8_t* from = rows.get() + r * row_bytes + block * format_->block_bytes + at;
        expected.insert(expected.end(), from, from + n);
      }
    };
    for (int64_t b = 0; b < n_blocks; ++b)
      take(b, layout.odd_first ? 0 : 4 * layout.n_dwords, layout.odd_bytes);
    for (int64_t b = 0; b < n_blocks; ++b) {
      std::vector<int> dword_at(layout.n_dwords, -1);
      for (int i = 0; i < layout.n_dwords; ++i) dword_at.at(strip_place(format_->type, i)) = i;
      for (const int i : dword_at) take(b, (layout.odd_first ? layout.odd_bytes : 0) + 4 * i, 4);
    }
    const auto strip = exact<uint8_t>(kStripRows * row_bytes);
    matmul_->interleave(rows.get(), row_bytes, n_blocks * format_->block_elems, strip.get());
    ASSERT_EQ(std::memcmp(strip.get(), expected.data(), expected.size()), 0) << n_blocks << " blocks";
    const auto back = exact<uint8_t>(kStripRows * row_bytes);
    rows_of_strip(format_->type, strip.get(), n_blocks * format_->block_elems, back.get());
    ASSERT_EQ(std::memcmp(back.get(), rows.get(), expected.size()), 0) << n_blocks << " blocks, back to rows";
  }
}

TEST_P(MatmulTest, AppliesTheScale) {
  constexpr int64_t kRows = 13;
  constexpr float kScale = -0.37f;
  Problem problem(*format_, kRows, column_counts().back(), 10);
  for (const int64_t n_tokens : {1, 2, 10}) {
    const std::vector<float> plain = problem.run(matmul_->rows, 0, kRows, n_tokens);
    const std::vector<float> scaled = problem.run(matmul_->rows, 0, kRows, n_tokens, kScale);
    // One rounding on either side, of the product or of both factors' product.
    for (size_t i = 0; i < plain.size(); ++i)
      ASSERT_LE(std::abs(scaled[i] - plain[i] * kScale), std::abs(plain[i]) * 0x1p-23f)
          << n_tokens << " tokens, element " << i;
  }
}

TEST_P(MatmulTest, DecodesTheBitsOfTheScalarDecoder) {
  const std::string sample = sample_blocks(*format_);
  const int64_t n_blocks = static_cast<int64_t>(sample.size()) / format_->block_bytes;
  ASSERT_GT(n_blocks, 2);
  const quant::DecodeFn decode = kernels_->decode[static_cast<size_t>(format_->type)];
  ASSERT_NE(decode, nullptr);
  std::vector<int64_t> counts = {0, 1, 2, n_blocks - 1, n_blocks};
  for (int64_t count = 3; count < std::min<int64_t>(70, n_blocks); ++count) counts.push_back(count);
  for (const int64_t count : counts) {
    const int64_t n = count * format_->block_elems;
    const auto blocks = exact<uint8_t>(std::max<int64_t>(1, count * format_->block_bytes));
    std::memcpy(blocks.get(), sample.data(), count * format_->block_bytes);
    std::vector<float> expected(n + kGuards, kGuard);
    std::vector<float> got = expected;
    format_->decode(blocks.get(), expected.data(), n);
    decode(blocks.get(), got.data(), n);
    for (int64_t i = 0; i < n + kGuards; ++i)
      ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(float)), 0)
          << "weight " << i << " of " << n << " is " << got[i] << " instead of " << expected[i];
  }
}

TEST_P(MatmulTest, DotProductsOfTheReferenceData) {
  const std::string name(format_->name);
  const Json manifest = quant::reference_manifest();
  if (!manifest.contains(name)) {
    ASSERT_EQ(format_->type, quant::Type::kF32) << "no reference data for " << name;
    return;
  }
  const Json& dot = manifest.at(name).at("dot");
  const Json& random_half = dot.at("random_half");
  const std::vector<float> activations = quant::reference_floats(dot.at("act").get<std::string>());
  const std::string quantized = quant::reference_bytes(dot.at("blocks").get<std::string>());
  const std::string random =
      quant::reference_bytes(name + ".blocks").substr(random_half.at("byte_offset").get<size_t>());
  const auto n_cols = static_cast<int64_t>(activations.size());
  const QuantizedStorage stored(activations.data(), n_cols);
  const std::pair<const std::string*, const Json*> cases[] = {{&quantized, &dot}, {&random, &random_half}};
  for (const auto& [blocks, expected] : cases) {
    ASSERT_EQ(static_cast<int64_t>(blocks->size()), quant::row_bytes(*format_, n_cols));
    double dot_f64 = expected->at("dot_f64").get<double>();
    const double abs_sum = expected->at("abs_sum_f64").get<double>();
    if (matmul_->takes_quantized) {
      // What the rounded activations give is the result; it may differ by 1 % of the sum of magnitudes from
      // the exact one (README.md of tests/data/quants).
      const std::vector<float> weights = quant::decode_all(*format_, *blocks);
      double rounded = 0;
      for (int64_t c = 0; c < n_cols; ++c) rounded += static_cast<double>(weights[c]) * stored.values[c];
      EXPECT_LE(std::abs(rounded - dot_f64), 1e-2 * abs_sum);
      dot_f64 = rounded;
    }
    const double tolerance = kTolerance * abs_sum;
    for (const int64_t n_tokens : {1, 10}) {
      std::vector<uint32_t> aligned(blocks->size() / 4 + 1);
      std::memcpy(aligned.data(), blocks->data(), blocks->size());
      std::vector<float> results(n_tokens), scratch(matmul_scratch_floats(n_cols));
      std::vector<const float*> x(n_tokens, activations.data());
      const std::vector<const QuantizedGroup*> rounded(n_tokens, stored.groups.get());
      std::vector<float*> y;
      for (float& result : results) y.push_back(&result);
      matmul_->rows({.weights = aligned.data(),
                     .row_bytes = static_cast<int64_t>(blocks->size()),
                     .row_begin = 0,
                     .row_end = 1,
                     .n_cols = n_cols,
                     .x = x.data(),
                     .quantized = rounded.data(),
                     .y = y.data(),
                     .n_tokens = n_tokens,
                     .scale = 1.0f,
                     .scratch = scratch.data()});
      for (const float result : results)
        EXPECT_LE(std::abs(static_cast<double>(result) - dot_f64), tolerance) << n_tokens << " tokens";
    }
  }
}

std::string case_name(const ::testing::TestParamInfo<MatmulTest::ParamType>& info) {
  const Format& format = quant::formats()[std::get<1>(info.param)];
  return std::string(isa_name(std::get<0>(info.param))) + "_" + std::string(format.name);
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTest,
                         ::testing::Combine(::testing::ValuesIn(kIsas),
                                            ::testing::Range<size_t>(0, quant::formats().size())),
                         case_name);

TEST(MatmulTable, HasEveryFormatAndNothingElse) {
  for (const Isa isa : kIsas) {
    if (!isa_usable(isa)) continue;
    const Kernels& kernels = kernels_for(isa);
    EXPECT_EQ(kernels.isa, isa);
    for (uint32_t id = 0; id < quant::kTypeIdLimit; ++id) {
      const bool is_format = quant::find_format(id) != nullptr;
      EXPECT_EQ(kernels.matmul[id].rows != nullptr, is_format) << isa_name(isa) << ", type " << id;
      EXPECT_EQ(kernels.decode[id] != nullptr, is_format) << isa_name(isa) << ", type " << id;
      const bool in_strips = isa != Isa::kRef && strip_layout(static_cast<quant::Type>(id)).n_dwords > 0;
      EXPECT_EQ(kernels.matmul[id].strips != nullptr, in_strips) << isa_name(isa) << ", type " << id;
      EXPECT_EQ(kernels.matmul[id].interleave != nullptr, in_strips) << isa_name(isa) << ", type " << id;
    }
  }
}

}  // namespace
}  // namespace packmule::kernels
