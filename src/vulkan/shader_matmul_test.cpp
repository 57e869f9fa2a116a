// The shaders that read weights, for every format of the table, against kernels/ref.
#include <numeric>

#include "quant/reference_data_for_test.h"
#include "vulkan/shader_for_test.h"

namespace packmule::vulkan {
namespace {

using quant::Format;
using testing_support::Floats;
using testing_support::from_device;
using testing_support::guarded;
using testing_support::Random;
using testing_support::ref;
using testing_support::to_device;
using testing_support::with_stride;
using testing_support::without_stride;

// Float sums of products that are right to 2^-24 each, against double ones: README.md of tests/data/quants
// gives this bound for float kernels.
constexpr double kTolerance = 1e-5;

std::string sample_blocks(const Format& format) {
  if (format.type != quant::Type::kF32) return quant::reference_bytes(std::string(format.name) + ".blocks");
  const Floats values = Random(11).normal(8192);
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// Those blocks without the ones whose products would overflow a float, or are denormal (random bits make
/// such numbers): devices may flush denormals.
std::vector<std::string> moderate_blocks(const Format& format) {
  const std::string sample = sample_blocks(format);
  const Floats decoded = quant::decode_all(format, sample);
  std::vector<std::string> blocks;
  for (size_t i = 0; i < sample.size() / format.block_bytes; ++i) {
    const auto first = decoded.begin() + static_cast<ptrdiff_t>(i * format.block_elems);
    const auto moderate = [](float weight) {
      return weight == 0 || (std::abs(weight) < 1e30f && std::abs(weight) > 1e-30f);
    };
    if (std::all_of(first, first + format.block_elems, moderate))
      blocks.push_back(sample.substr(i * format.block_bytes, format.block_bytes));
  }
  return blocks;
}

/// n_experts matrices one after the other, on the host and on the device.
struct Matrix {
  Matrix(const Format& format, int64_t n_rows, int64_t n_cols, int64_t n_experts = 1) {
    weights.type = format.type;
    weights.n_rows = n_rows;
    weights.n_cols = n_cols;
    weights.n_experts = n_experts;
    weights.scale = 0.75f;
    const std::vector<std::string> sample = moderate_blocks(format);
    const auto n_blocks = static_cast<int64_t>(sample.size());
    std::string text;
    for (int64_t i = 0; i < n_experts * n_rows * n_cols / format.block_elems; ++i)
      text += sample[static_cast<size_t>((i * 7 + i / n_blocks) % n_blocks)];
    bytes.assign(text.begin(), text.end());
    buffer = to_device(bytes);
    weights.span = buffer.span();
  }

  /// W[expert] x, by ref, and the sums of magnitudes that a tolerance is measured by.
  void multiply(int64_t expert, const float* x, Floats& y, std::vector<double>& abs_sums) const {
    std::vector<float> row(static_cast<size_t>(weights.n_cols));
    Floats result(static_cast<size_t>(weights.n_rows));
    float* to = result.data();
    const char* matrix = bytes.data() + expert * weights.expert_bytes();
    ref().matmul[static_cast<size_t>(weights.type)].rows({.weights = matrix,
                                                          .row_bytes = weights.row_bytes(),
                                                          .row_begin = 0,
                                                          .row_end = weights.n_rows,
                                                          .n_cols = weights.n_cols,
                                                          .x = &x,
                                                          .y = &to,
                                                          .n_tokens = 1,
                                                          .scale = weights.scale,
                                                          .scratch = row.data()});
    y.insert(y.end(), result.begin(), result.end());
    for (int64_t r = 0; r < weights.n_rows; ++r) {
      quant::format_of(weights.type).decode(matrix + r * weights.row_bytes(), row.data(), weights.n_cols);
      double sum = 0;
      for (int64_t c = 0; c < weights.n_cols; ++c) sum += std::abs(static_cast<double>(row[c]) * x[c]);
      abs_sums.push_back(sum);
    }
  }

  Weights weights;
  std::vector<char> bytes;
  Buffer buffer;
};

void expect_near(const Floats& got, const Floats& expected, const std::vector<double>& abs_sums,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_LE(std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])),
              tolerance * abs_sums[i])
        << what << ": element " << i << " is " << got[i] << " instead of " << expected[i];
}

/// What differs between formats is the decoders, and get_rows sees every bit of them. A driver takes a while
/// for each format, so PACKMULE_TEST_FORMATS=few leaves most of them to the runs with another width of
/// subgroups.
std::vector<const Format*> formats_to_multiply() {
  std::vector<const Format*> chosen;
  const char* which = std::getenv("PACKMULE_TEST_FORMATS");
  const bool few = which != nullptr && std::string_view(which) == "few";
  for (const Format& format : quant::formats())
    if (!few || format.type == quant::Type::kF16 || format.type == quant::Type::kQ4_K ||
        format.type == quant::Type::kQ8_0 || format.type == quant::Type::kIQ3_S)
      chosen.push_back(&format);
  return chosen;
}

class MatmulShader : public testing_support::ShaderTest {
 protected:
  static std::vector<int64_t> column_counts(const Format& format) {
    if (format.block_elems == 1) return {1, 31, 33, 257};
    if (format.block_elems < 256)
      return {format.block_elems, 3 * format.block_elems, 17 * format.block_elems};
    return {256, 3 * 256};
  }

  /// Rows rounded by the device, and the values that the bytes stand for.
  struct Rounded {
    Buffer codes, scales;
    Floats values;
  };
  static Rounded round(const Floats& x, int64_t n_cols) {
    const auto n = static_cast<int64_t>(x.size());
    const Buffer device_x = to_device(x);
    Rounded rounded{guarded(n / 4), guarded(n / 32), {}};
    run([&](Recorder& recorder) {
      return ops().quantize(recorder, {device_x.span(), n_cols},
                            {rounded.codes.span(), rounded.scales.span()}, n_cols, n / n_cols);
    });
    const auto codes = from_device<int8_t>(rounded.codes, x.size());
    const Floats scales = from_device<float>(rounded.scales, x.size() / 32);
    for (size_t i = 0; i < x.size(); ++i)
      rounded.values.push_back(scales[i / 32] * static_cast<float>(codes[i]));
    return rounded;
  }

  using Multiply = Status (Ops::*)(Recorder&, const MatmulArgs&);
  static void expect_right(const Matrix& matrix, Multiply multiply, int64_t n_rows, int64_t n_tokens,
                           const std::string& what) {
    Weights weights = matrix.weights;
    weights.n_rows = n_rows;
    const int64_t n_cols = weights.n_cols, x_stride = n_cols + 3, y_stride = n_rows + 2;
    const Floats x = Random(static_cast<uint32_t>(n_cols + n_tokens)).normal(n_tokens * n_cols);
    Floats expected;
    std::vector<double> abs_sums;
    for (int64_t t = 0; t < n_tokens; ++t) {
      Floats all;
      std::vector<double> all_sums;
      matrix.multiply(0, x.data() + t * n_cols, all, all_sums);
      expected.insert(expected.end(), all.begin(), all.begin() + n_rows);
      abs_sums.insert(abs_sums.end(), all_sums.begin(), all_sums.begin() + n_rows);
    }
    const Buffer device_x = to_device(with_stride(x, n_cols, x_stride));
    const Buffer device_y = guarded(n_tokens * y_stride + 1);
    run([&](Recorder& recorder) {
      return (ops().*multiply)(recorder, {.weights = weights,
                                          .x = {device_x.span(), x_stride},
                                          .y = {device_y.span(), y_stride},
                                          .n_tokens = n_tokens});
    });
    const Floats got = without_stride(from_device<float>(device_y, static_cast<size_t>(n_tokens * y_stride)),
                                      n_rows, y_stride);
    expect_near(got, expected, abs_sums, kTolerance, what);
  }
};

// The decoders, bit by bit, on the reference's blocks: regular ones and such of random bits.
TEST_F(MatmulShader, get_rows) {
  for (const Format& format : quant::formats()) {
    const std::string sample = sample_blocks(format);
    const int64_t n_cols = format.block_elems == 1 ? 37 : format.block_elems;
    const int64_t n_rows =
        static_cast<int64_t>(sample.size()) * format.block_elems / format.block_bytes / n_cols;
    const auto used = static_cast<size_t>(n_rows * quant::row_bytes(format, n_cols));
    const Floats decoded = quant::decode_all(format, sample.substr(0, used));
    const Buffer weights =
        to_device(std::vector<char>(sample.begin(), sample.begin() + static_cast<ptrdiff_t>(used)));
    std::vector<int32_t> ids(static_cast<size_t>(n_rows));
    std::iota(ids.rbegin(), ids.rend(), 0);
    ids.push_back(-1);
    ids.push_back(static_cast<int32_t>(n_rows));
    const Buffer device_ids = to_device(ids);
    const int64_t stride = n_cols + 1;
    const Buffer y = guarded(static_cast<int64_t>(ids.size()) * stride);
    run([&](Recorder& recorder) {
      return ops().get_rows(recorder,
                            {.type = format.type, .span = weights.span(), .n_rows = n_rows, .n_cols = n_cols},
                            device_ids.span(), {y.span(), stride}, static_cast<int64_t>(ids.size()));
    });
    const Floats got =
        without_stride(from_device<float>(y, ids.size() * static_cast<size_t>(stride)), n_cols, stride);
    for (size_t i = 0; i < got.size(); ++i) {
      const size_t t = i / static_cast<size_t>(n_cols), c = i % static_cast<size_t>(n_cols);
      if (t >= static_cast<size_t>(n_rows)) {
        ASSERT_EQ(got[i], 0.0f) << format.name << ": an id outside the matrix";
        continue;
      }
      const float expected = decoded[static_cast<size_t>(ids[t] * n_cols) + c];
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(got[i])) << format.name << ", weight " << i;
        continue;
      }
      // Of numbers below 2^-126 a device may make 0.
      if (std::abs(expected) < 0x1p-126f && got[i] == 0) continue;
      ASSERT_EQ(std::memcmp(&got[i], &expected, 4), 0)
          << format.name << ", weight " << i << " is " << got[i] << " instead of " << expected;
    }
  }
}

TEST_F(MatmulShader, matvec) {
  for (const Format* format : formats_to_multiply())
    for (const int64_t n_cols : column_counts(*format)) {
      const Matrix matrix(*format, 37, n_cols);
      for (const int64_t rows : {37, 36, 1, 0})
        expect_right(matrix, &Ops::matvec, rows, 1,
                     fmt::format("{}, {} columns, {} rows", format->name, n_cols, rows));
    }
}

TEST_F(MatmulShader, matvec_of_several_tokens) {
  for (const quant::Type type : {quant::Type::kF32, quant::Type::kQ4_K, quant::Type::kIQ2_S})
    for (const int64_t n_cols : column_counts(quant::format_of(type))) {
      const Matrix matrix(quant::format_of(type), 37, n_cols);
      for (const auto& [rows, tokens] :
           std::vector<std::pair<int64_t, int64_t>>{{36, 3}, {1, 5}, {37, 8}, {37, 2}, {37, 0}})
        expect_right(matrix, &Ops::matvec, rows, tokens,
                     fmt::format("{} columns, {} rows, {} tokens", n_cols, rows, tokens));
    }
}

TEST_F(MatmulShader, matmul_tiled) {
  for (const Format* format : formats_to_multiply())
    for (const int64_t n_cols : column_counts(*format)) {
      const Matrix matrix(*format, 37, n_cols);
      for (const auto& [rows, tokens] :
           std::vector<std::pair<int64_t, int64_t>>{{37, 35}, {32, 32}, {31, 1}, {0, 9}, {37, 0}})
        expect_right(matrix, &Ops::matmul_tiled, rows, tokens,
                     fmt::format("{}, {} columns, {} rows, {} tokens", format->name, n_cols, rows, tokens));
    }
}

// Halves to even, and the bits of the processor's kernels where the device divides as it does: Vulkan grants
// a division 2.5 units of 2^-23, which moves a value that lies half way between two codes to the other one.
TEST_F(MatmulShader, quantize) {
  constexpr int64_t kRows = 3, kN = 96, kStride = 101;
  Floats x = Random(29).normal(kRows * kStride);
  for (int64_t i = 0; i < 32; ++i) x[32 + i] = 0;                             // nothing to scale
  for (int64_t i = 0; i < 32; ++i) x[64 + i] = static_cast<float>(i) - 0.5f;  // with a scale of 1: halves
  x[64] = -127;
  const Buffer device_x = to_device(x), codes = guarded(kRows * kN / 4), scales = guarded(kRows * kN / 32);
  run([&](Recorder& recorder) {
    return ops().quantize(recorder, {device_x.span(), kStride}, {codes.span(), scales.span()}, kN, kRows);
  });
  const auto got_codes = from_device<int8_t>(codes, kRows * kN);
  const Floats got_scales = from_device<float>(scales, kRows * kN / 32);
  const bool exact = device()->info().type == DeviceType::kCpu;
  for (int64_t row = 0; row < kRows; ++row) {
    std::vector<kernels::QuantizedGroup> expected(kN / 32);
    ref().quantize(x.data() + row * kStride, kN, expected.data());
    for (int64_t g = 0; g < kN / 32; ++g) {
      const float scale = got_scales[static_cast<size_t>(row * kN / 32 + g)];
      ASSERT_NEAR(scale, expected[g].scale, exact ? 0 : 1e-6f * expected[g].scale);
      for (int64_t i = 0; i < 32; ++i)
        ASSERT_NEAR(got_codes[static_cast<size_t>(row * kN + 32 * g + i)], expected[g].codes[i],
                    exact ? 0 : 1)
            << "row " << row << ", value " << 32 * g + i;
    }
  }
}

// ref multiplies the values that the bytes stand for, so that both must agree to float rounding.
TEST_F(MatmulShader, IntegerProducts) {
  if (!ops().has_int8(quant::Type::kQ8_0)) GTEST_SKIP() << "the device has no packed dot products";
  EXPECT_FALSE(ops().has_int8(quant::Type::kF16));
  for (const Format* format : formats_to_multiply()) {
    if (!ops().has_int8(format->type)) continue;
    const bool several = format->type == quant::Type::kQ4_K;
    const int64_t n_cols = 3 * std::max(64, format->block_elems);
    const Matrix matrix(*format, 37, n_cols);
    const auto expect = [&](Multiply multiply, int64_t n_tokens, std::string_view what) {
      const Rounded x = round(Random(8).normal(n_tokens * n_cols), n_cols);
      const Buffer y = guarded(n_tokens * 37);
      run([&](Recorder& recorder) {
        return (ops().*multiply)(recorder, {.weights = matrix.weights,
                                            .y = {y.span(), 37},
                                            .n_tokens = n_tokens,
                                            .rounded = {x.codes.span(), x.scales.span()}});
      });
      Floats expected;
      std::vector<double> abs_sums;
      for (int64_t t = 0; t < n_tokens; ++t)
        matrix.multiply(0, x.values.data() + t * n_cols, expected, abs_sums);
      expect_near(from_device<float>(y, expected.size()), expected, abs_sums, kTolerance,
                  fmt::format("{}, {} tokens, {}", format->name, n_tokens, what));
    };
    for (const int64_t n_tokens : several ? std::vector<int64_t>{1, 3, 8} : std::vector<int64_t>{1})
      expect(&Ops::matvec, n_tokens, "matvec");
    for (const int64_t n_tokens : several ? std::vector<int64_t>{1, 32, 70} : std::vector<int64_t>{33})
      expect(&Ops::matmul_tiled, n_tokens, "tiles");
  }
}

// More rows than a dimension of a dispatch may have: the logits of this model have 151,936.
TEST_F(MatmulShader, MoreRowsThanADispatchIsWide) {
  const Format& format = quant::format_of(quant::Type::kF16);
  const Matrix matrix(format, 2 * 65535 + 7, 3);
  expect_right(matrix, &Ops::matvec, matrix.weights.n_rows, 1, "matvec");
}

// A token's bits do not depend on the others of the call, as long as the same pipeline is used.
TEST_F(MatmulShader, SameBitsForAnyCompany) {
  const Matrix matrix(quant::format_of(quant::Type::kQ4_K), 37, 512);
  const int64_t n_tokens = 70;
  const Floats x = Random(3).normal(n_tokens * 512);
  const Buffer device_x = to_device(x);
  const auto rows_of = [&](int64_t first, int64_t n) {
    const Buffer y = guarded(n * 37);
    run([&](Recorder& recorder) {
      return ops().matmul_tiled(recorder, {.weights = matrix.weights,
                                           .x = {device_x.span().part(first * 512 * 4, n * 512 * 4), 512},
                                           .y = {y.span(), 37},
                                           .n_tokens = n});
    });
    return from_device<float>(y, static_cast<size_t>(n * 37));
  };
  const Floats all = rows_of(0, n_tokens);
  for (const auto& [first, n] : std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {5, 33}, {69, 1}})
    testing_support::expect_same_bits(
        rows_of(first, n),
        std::span(all).subspan(static_cast<size_t>(first * 37), static_cast<size_t>(n * 37)));
}

class ExpertShader : public MatmulShader {
 protected:
  struct Way {
    bool sorted = false;
    bool rounded = false;
    bool with_factors = false;
    bool in_pieces = false;  // some experts' weights at a time, as if no others were there
  };
  // Gate and up read a row of x for each token, down one for each pair.
  static void expect_experts(const Format& format, int64_t n_pairs, int64_t x_divisor, const Way& way) {
    const std::string what = fmt::format("{}, {} pairs, {} of a token, {}{}", format.name, n_pairs, x_divisor,
                                         way.sorted ? "sorted" : "alone", way.rounded ? ", integers" : "");
    constexpr int64_t kRows = 35, kExperts = 7;
    const int64_t n_cols = format.block_elems == 1 ? 65 : std::max(64, format.block_elems);
    const Matrix matrix(format, kRows, n_cols, kExperts);
    const int64_t n_x = (n_pairs + x_divisor - 1) / x_divisor;
    Floats x = Random(9).normal(n_x * n_cols);
    Rounded bytes;
    if (way.rounded) {
      bytes = round(x, n_cols);
      x = bytes.values;
    }
    std::vector<int32_t> ids;
    std::minstd_rand random(5);
    // Expert 2 gets most, 4 and 5 none.
    for (int64_t i = 0; i < n_pairs; ++i)
      ids.push_back(i % 3 != 0 ? 2 : std::array{0, 1, 3, 6}[random() % 4]);
    Floats expected;
    std::vector<double> abs_sums;
    for (int64_t i = 0; i < n_pairs; ++i)
      matrix.multiply(ids[static_cast<size_t>(i)], x.data() + i / x_divisor * n_cols, expected, abs_sums);

    // Powers of two, so that the expected products are exact.
    const Floats factors{1.0f, 0.5f, 2.0f, 4.0f, 0.25f, 1.0f, 8.0f};
    const Buffer device_factors = to_device(factors);
    for (size_t i = 0; way.with_factors && i < expected.size(); ++i) {
      const float factor = factors[static_cast<size_t>(ids[i / kRows])];
      expected[i] *= factor;
      abs_sums[i] *= factor;
    }
    Weights weights = matrix.weights;
    if (way.with_factors) weights.expert_scales = device_factors.span();

    const Buffer device_x = to_device(x), device_ids = to_device(ids), y = guarded(n_pairs * kRows + 1);
    const ExpertMatmulArgs args{.weights = weights,
                                .ids = device_ids.span(),
                                .x = {device_x.span(), n_cols},
                                .y = {y.span(), kRows},
                                .n_pairs = n_pairs,
                                .x_divisor = x_divisor,
                                .rounded = {bytes.codes.span(), bytes.scales.span()}};
    const Buffer begins = guarded(ExpertOrder::begins_bytes(kExperts) / 4),
                 pairs = guarded(ExpertOrder::pairs_bytes(n_pairs) / 4 + 1),
                 tiles = guarded(ExpertOrder::tiles_bytes(n_pairs, kExperts) / 4), groups = guarded(3);
    const ExpertOrder order{begins.span(), pairs.span(), tiles.span(), groups.span(), n_pairs, kExperts};
    run([&](Recorder& recorder) -> Status {
      if (!way.sorted) return ops().expert_matvec(recorder, args);
      PACKMULE_TRY_STATUS(ops().expert_sort(recorder, device_ids.span(), order, kRows));
      recorder.barrier();
      if (!way.in_pieces) return ops().expert_matmul(recorder, args, order);
      for (const auto& [first, end] : {std::pair(3, 4), std::pair(0, 3), std::pair(4, 7)}) {
        ExpertMatmulArgs some = args;
        some.weights.span =
            weights.span.part(first * weights.expert_bytes(), (end - first) * weights.expert_bytes());
        some.weights.first_expert = first;
        some.weights.n_experts = end - first;
        PACKMULE_TRY_STATUS(ops().expert_matmul(recorder, some, order));
      }
      return {};
    });
    Floats got = from_device<float>(y, static_cast<size_t>(n_pairs * kRows + 1));
    EXPECT_EQ(got.back(), testing_support::kGuard) << what;
    got.pop_back();
    expect_near(got, expected, abs_sums, kTolerance, what);
  }
};

TEST_F(ExpertShader, IntegerProducts) {
  if (!ops().has_int8(quant::Type::kQ8_0)) GTEST_SKIP() << "the device has no packed dot products";
  for (const quant::Type type : {quant::Type::kQ4_K, quant::Type::kQ6_K}) {
    expect_experts(quant::format_of(type), 10, 10, {.rounded = true});
    expect_experts(quant::format_of(type), 70, 1, {.sorted = true, .rounded = true});
    expect_experts(quant::format_of(type), 70, 10, {.sorted = true, .rounded = true});
  }
}

TEST_F(ExpertShader, expert_matvec) {
  for (const Format* format : formats_to_multiply()) expect_experts(*format, 10, 10, {});
  expect_experts(quant::format_of(quant::Type::kQ5_K), 10, 1, {});
  expect_experts(quant::format_of(quant::Type::kQ5_K), 10, 10, {.with_factors = true});
  expect_experts(quant::format_of(quant::Type::kQ5_K), 1, 1, {});
  expect_experts(quant::format_of(quant::Type::kQ5_K), 0, 1, {});
}

TEST_F(ExpertShader, expert_matmul) {
  for (const Format* format : formats_to_multiply()) expect_experts(*format, 70, 10, {.sorted = true});
  expect_experts(quant::format_of(quant::Type::kQ6_K), 70, 10, {.sorted = true, .with_factors = true});
  for (const int64_t n_pairs : {0, 1, 3, 64, 129, 301})
    expect_experts(quant::format_of(quant::Type::kQ6_K), n_pairs, 1, {.sorted = true});
}

TEST_F(ExpertShader, ExpertsInPieces) {
  for (const quant::Type type : {quant::Type::kF32, quant::Type::kQ6_K})
    expect_experts(quant::format_of(type), 129, 10,
                   {.sorted = true, .with_factors = true, .in_pieces = true});
}

// Ids come from logits: whatever they are, nothing outside the matrices is read.
TEST_F(ExpertShader, AnIdOutsideCountsAsTheLast) {
  const Matrix matrix(quant::format_of(quant::Type::kQ8_0), 5, 64, 3);
  const Floats x = Random(2).normal(64);
  Floats expected;
  std::vector<double> abs_sums;
  for (int i = 0; i < 2; ++i) matrix.multiply(2, x.data(), expected, abs_sums);
  const Buffer device_x = to_device(x), ids = to_device(std::vector<int32_t>{-1, 1 << 30}), y = guarded(10);
  run([&](Recorder& recorder) {
    return ops().expert_matvec(recorder, {.weights = matrix.weights,
                                          .ids = ids.span(),
                                          .x = {device_x.span(), 64},
                                          .y = {y.span(), 5},
                                          .n_pairs = 2,
                                          .x_divisor = 2});
  });
  expect_near(from_device<float>(y, 10), expected, abs_sums, kTolerance, "outside");
}

}  // namespace
}  // namespace packmule::vulkan
