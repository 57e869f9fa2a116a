#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "quant/format.h"
#include "quant/reference_data_for_test.h"

namespace packmule::quant {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<const Format*> writable_formats() {
  std::vector<const Format*> writable;
  for (const Format& format : formats())
    if (format.encode != nullptr) writable.push_back(&format);
  return writable;
}

// The formats that keep the values themselves, infinities and NaN included.
bool is_float(const Format& format) {
  return format.block_elems == 1;
}

std::string encode_all(const Format& format, const std::vector<float>& in, const float* importance) {
  const auto n = static_cast<int64_t>(in.size());
  const auto size_bytes = static_cast<size_t>(row_bytes(format, n));
  std::vector<uint32_t> aligned(size_bytes / 4 + 1);
  format.encode(in.data(), importance, aligned.data(), n);
  return {reinterpret_cast<const char*>(aligned.data()), size_bytes};
}

std::vector<float> round_trip(const Format& format, const std::vector<float>& in, const float* importance) {
  return decode_all(format, encode_all(format, in, importance));
}

// The importance of each of n values, of rows of columns.size().
std::vector<float> over_rows(const std::vector<float>& columns, size_t n) {
  std::vector<float> all;
  all.reserve(n);
  for (size_t i = 0; i < n; ++i) all.push_back(columns[i % columns.size()]);
  return all;
}

// Root of the mean squared error; with importance, of the mean weighted by it.
double rmse(const std::vector<float>& in, const std::vector<float>& out, const float* importance) {
  double sum = 0;
  double sum_w = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    const double w = importance == nullptr ? 1.0 : importance[i];
    const double error = static_cast<double>(in[i]) - static_cast<double>(out[i]);
    sum += w * error * error;
    sum_w += w;
  }
  return std::sqrt(sum / sum_w);
}

std::vector<float> normal_values(size_t n, float mean, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(Encode, PlainBytesAreThoseOfTheReference) {
  for (const Format* format : writable_formats()) {
    if (!format->kv_cache || format->type == Type::kF32) continue;
    const std::string name(format->name);
    std::vector<float> in = reference_floats(name + ".src.f32");
    in.resize(2048);
    const std::string got = encode_all(*format, in, nullptr);
    const std::string expected = reference_bytes(name + ".blocks").substr(0, got.size());
    const auto differs = std::ranges::mismatch(got, expected).in1 - got.begin();
    EXPECT_EQ(got, expected) << name << ", block " << differs / format->block_bytes;
  }
}

// The bar of the data's README, in all four columns. Formats that write ggml's bytes meet it exactly; their
// sums are added here in another order than there: 16384 roundings of 2^-53 are 1.8e-12.
TEST(Encode, QualityIsThatOfTheReferenceOrBetter) {
  constexpr double kSummation = 1e-11;
  const Json manifest = reference_manifest();
  const std::vector<float> in = reference_floats("bar.src.f32");
  const std::vector<float> importance = over_rows(reference_floats("imatrix.f32"), in.size());
  for (const Format* format : writable_formats()) {
    if (format->type == Type::kF32) continue;
    const Json& bar = manifest.at(std::string(format->name));
    const auto expect_at_most = [&](const char* key, double got) {
      if (bar.at(key).is_null()) return;
      const double limit = bar.at(key).get<double>();
      EXPECT_LE(got, limit * (1 + kSummation)) << format->name << ", " << key;
      RecordProperty(std::string(format->name) + "." + key, std::to_string(got / limit));
    };
    const std::vector<float> plain = round_trip(*format, in, nullptr);
    const std::vector<float> guided = round_trip(*format, in, importance.data());
    expect_at_most("bar_rmse_no_imatrix", rmse(in, plain, nullptr));
    expect_at_most("bar_rmse_imatrix", rmse(in, guided, nullptr));
    expect_at_most("bar_weighted_rmse_no_imatrix", rmse(in, plain, importance.data()));
    expect_at_most("bar_weighted_rmse_imatrix", rmse(in, guided, importance.data()));
  }
}

// The source of the vectors has blocks of zeros, constants, one sign; its second half is encoded with
// importance as the reference was.
TEST(Encode, QualityOnTheSourceOfTheVectorsIsThatOfTheReferenceOrBetter) {
  constexpr double kSummation = 1e-11;
  const Json manifest = reference_manifest();
  for (const Format* format : writable_formats()) {
    if (format->type == Type::kF32) continue;
    const std::string name(format->name);
    const std::vector<float> in = reference_floats(name + ".src.f32");
    const std::vector<float> importance = over_rows(reference_floats("imatrix.f32"), in.size());
    const auto middle = in.begin() + static_cast<std::ptrdiff_t>(in.size() / 2);
    std::vector<float> out = round_trip(*format, {in.begin(), middle}, nullptr);
    const std::vector<float> guided = round_trip(*format, {middle, in.end()}, importance.data());
    out.insert(out.end(), guided.begin(), guided.end());
    EXPECT_LE(rmse(in, out, nullptr), manifest.at(name).at("rmse_on_src").get<double>() * (1 + kSummation))
        << name;
  }
}

// In the formats whose blocks end with the low nibbles of all codes: no other nibble brings any value nearer,
// for the scales that the search has chosen. (Without importance the cache formats round before the scale
// becomes a float16, so this would not hold.)
TEST(Encode, SearchedCodesAreTheNearest) {
  const std::vector<float> importance = over_rows(reference_floats("imatrix.f32"), kTypeIdLimit * 256);
  int n_formats = 0;
  for (const Format* format : writable_formats()) {
    constexpr Type kEndInNibbles[] = {Type::kQ4_0, Type::kQ4_1, Type::kQ5_0,  Type::kQ5_1,
                                      Type::kQ4_K, Type::kQ5_K, Type::kIQ4_NL};
    if (std::ranges::find(kEndInNibbles, format->type) == std::end(kEndInNibbles)) continue;
    ++n_formats;
    const auto n = static_cast<size_t>(format->block_elems);
    for (uint32_t seed = 0; seed < 4; ++seed) {
      // Far from zero, too: there the float16 of a minimum is another number than the one searched for.
      const std::vector<float> in = normal_values(n, seed % 2 == 0 ? 0.0f : 10.0f, 0.02f, seed);
      const std::string block = encode_all(*format, in, importance.data());
      const std::vector<float> chosen = decode_all(*format, block);
      for (int nibble = 0; nibble < 16; ++nibble) {
        std::string changed = block;
        for (size_t at = block.size() - n / 2; at < block.size(); ++at)
          changed[at] = static_cast<char>(nibble * 17);
        const std::vector<float> other = decode_all(*format, changed);
        // At a tie either code is right, and float32 decides it by rounding.
        for (size_t i = 0; i < n; ++i)
          ASSERT_LE(std::abs(in[i] - chosen[i]), std::abs(in[i] - other[i]) * 1.0001f + 1e-8f)
              << format->name << ", weight " << i << ", nibble " << nibble;
      }
    }
  }
  EXPECT_EQ(n_formats, 7);
}

// Rounding to nearest meets its own grid again: the extreme value of a block is on it.
TEST(Encode, PlainRoundingOfDecodedBlocksChangesNothing) {
  for (const Format* format : writable_formats()) {
    // IQ4_NL and the K formats search: from another start they may end in another valley.
    if (!format->kv_cache || format->type == Type::kIQ4_NL) continue;
    std::vector<float> in = normal_values(4096, 0.0f, 0.02f, 7);
    for (size_t i = 0; i < 64; ++i) in[i] = 0;
    const std::vector<float> once = round_trip(*format, in, nullptr);
    EXPECT_EQ(round_trip(*format, once, nullptr), once) << format->name;  // not the bytes: -0 may become 0
  }
}

// Of two extremes of one size the first becomes code 0: the most negative of the codes around the centre.
TEST(Encode, FirstOfTwoExtremesIsKeptByCentredFormats) {
  for (const Type type : {Type::kQ4_0, Type::kQ5_0}) {
    const float largest_code = type == Type::kQ4_0 ? 7.0f / 8.0f : 15.0f / 16.0f;
    for (const float sign : {1.0f, -1.0f}) {
      std::vector<float> in(32, 0.0f);
      in[3] = sign;
      in[21] = -sign;
      const std::vector<float> out = round_trip(format_of(type), in, nullptr);
      EXPECT_EQ(out[3], sign) << format_of(type).name;
      EXPECT_EQ(out[21], -sign * largest_code) << format_of(type).name;
    }
  }
}

TEST(Encode, Q8RoundsHalvesAwayFromZero) {
  std::vector<float> in(32, 0.0f);
  std::vector<float> expected(32, 0.0f);
  in[0] = expected[0] = 127.0f;  // the scale is 1
  for (size_t i = 1; i < 32; ++i) {
    const float sign = i % 2 == 0 ? 1.0f : -1.0f;
    in[i] = sign * (static_cast<float>(i) + 0.5f);
    expected[i] = sign * static_cast<float>(i + 1);
  }
  EXPECT_EQ(round_trip(format_of(Type::kQ8_0), in, nullptr), expected);
}

// Q6_K's scales reach from -128 to 127: groups that mirror each other need both ends.
TEST(Encode, Q6KHoldsGroupsThatMirrorEachOther) {
  const Format& format = format_of(Type::kQ6_K);
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const std::vector<float> group = normal_values(16, 0.0f, 0.02f, seed);
    std::vector<float> same;
    std::vector<float> mirrored;
    for (size_t i = 0; i < 256; ++i) {
      same.push_back(group[i % 16]);
      mirrored.push_back(i / 16 % 2 == 0 ? group[i % 16] : -group[i % 16]);
    }
    EXPECT_LE(rmse(mirrored, round_trip(format, mirrored, nullptr), nullptr),
              1.1 * rmse(same, round_trip(format, same, nullptr), nullptr));
  }
}

TEST(Encode, ZerosStayZeros) {
  const std::vector<float> in(512, 0.0f);
  const std::vector<float> importance(512, 1.0f);
  for (const Format* format : writable_formats()) {
    EXPECT_EQ(round_trip(*format, in, nullptr), in) << format->name;
    EXPECT_EQ(round_trip(*format, in, importance.data()), in) << format->name;
  }
}

// A group of zeros inside a block must not spoil the others, nor be spoilt.
TEST(Encode, ZeroGroupInABlockStaysZeroAndHarmsNothing) {
  for (const Format* format : writable_formats()) {
    std::vector<float> in = normal_values(256, 0.0f, 0.02f, 3);
    const std::vector<float> before = round_trip(*format, in, nullptr);
    const std::vector<float> dense = in;
    for (size_t i = 64; i < 96; ++i) in[i] = 0;
    const std::vector<float> out = round_trip(*format, in, nullptr);
    for (size_t i = 64; i < 96; ++i) EXPECT_EQ(out[i], 0.0f) << format->name << ", weight " << i;
    EXPECT_LE(rmse(in, out, nullptr), 1.05 * rmse(dense, before, nullptr)) << format->name;
  }
}

// One value over a block: all codes are equal and the scale decides. A float16 hits it up to 2^-11; where d
// is a denormal float16, as in small blocks of Q6_K, an integer up to 128 has to, up to 1/256. One value over
// a group of a mixed block: the group's scale is one of 63 parts of the largest, which is 0.5 / 15 here, and
// code 15 multiplies half of that part to 0.004.
TEST(Encode, ConstantsAreKept) {
  for (const Format* format : writable_formats()) {
    for (const float value : {0.5f, -0.5f, 1.0f, -3e-3f, 1234.5f}) {
      const std::vector<float> in(256, value);
      const std::vector<float> importance = over_rows({1.0f, 3.0f, 0.0f}, 256);
      for (const float* weights : {static_cast<const float*>(nullptr), importance.data()})
        for (const float got : round_trip(*format, in, weights))
          ASSERT_NEAR(got, value, std::abs(value) / 256) << format->name;
    }
    std::vector<float> in = normal_values(256, 0.0f, 0.1f, 5);
    std::fill_n(in.begin() + 32, 32, 0.2f);
    const std::vector<float> out = round_trip(*format, in, nullptr);
    for (size_t i = 32; i < 64; ++i) ASSERT_NEAR(out[i], 0.2f, 0.004f) << format->name;
  }
}

// Values far from zero on one side: a minimum (of either sign) takes the distance. The step of a six-bit
// minimum around 100 is 1.6, so the codes of a group cover at most 8 + 1.6 in 15 steps: 0.64 / sqrt(12) =
// 0.2.
TEST(Encode, MinimaTakeTheDistanceFromZero) {
  int n_formats = 0;
  for (const Format* format : writable_formats()) {
    constexpr Type kWithMinimum[] = {Type::kQ4_1, Type::kQ5_1, Type::kQ4_K, Type::kQ5_K};
    if (std::ranges::find(kWithMinimum, format->type) == std::end(kWithMinimum)) continue;
    ++n_formats;
    const std::vector<float> importance(1024, 2.0f);
    for (const float mean : {100.0f, -100.0f}) {
      const std::vector<float> in = normal_values(1024, mean, 1.0f, 11);
      EXPECT_LE(rmse(in, round_trip(*format, in, nullptr), nullptr), 0.2) << format->name << " " << mean;
      EXPECT_LE(rmse(in, round_trip(*format, in, importance.data()), nullptr), 0.2)
          << format->name << " " << mean;
    }
  }
  EXPECT_EQ(n_formats, 4);
}

// Block formats hold finite numbers whatever they are given; the sanitizers see that nothing is undefined.
TEST(Encode, WildValuesGiveFiniteBlocks) {
  using Fill = std::function<float(size_t)>;
  const std::vector<float> normal = normal_values(256, 0.0f, 1.0f, 13);
  const std::vector<std::pair<const char*, Fill>> inputs = {
      {"all NaN", [](size_t) { return kNan; }},
      {"one NaN", [&](size_t i) { return i == 17 ? kNan : normal[i]; }},
      {"all infinite", [](size_t) { return kInfinity; }},
      {"both infinities", [](size_t i) { return i % 2 == 0 ? kInfinity : -kInfinity; }},
      {"one infinity", [&](size_t i) { return i == 200 ? -kInfinity : normal[i]; }},
      {"NaN and infinity", [](size_t i) { return i % 3 == 0 ? kNan : kInfinity; }},
      {"largest floats", [](size_t i) { return i % 2 == 0 ? 3.4e38f : -3.4e38f; }},
      {"huge", [&](size_t i) { return 1e30f * normal[i]; }},
      {"large", [&](size_t i) { return 1e9f * normal[i]; }},
      {"denormal", [&](size_t i) { return 1e-41f * normal[i]; }},
      {"tiny", [&](size_t i) { return 1e-20f * normal[i]; }},
      {"smallest", [](size_t i) { return i == 100 ? 1.4e-45f : 0.0f; }},
      {"wide", [&](size_t i) { return std::ldexp(normal[i], static_cast<int>(i) - 128); }},
  };
  const std::vector<std::pair<const char*, Fill>> weights = {
      {"even", [](size_t) { return 1.0f; }},
      {"none", [](size_t) { return 0.0f; }},
      {"NaN", [](size_t) { return kNan; }},
      {"infinite", [](size_t) { return kInfinity; }},
      {"negative", [](size_t) { return -1.0f; }},
      {"one", [](size_t i) { return i == 40 ? 3e38f : 0.0f; }},
      {"tiny", [](size_t i) { return 1e-40f * static_cast<float>(i % 7); }},
  };
  for (const Format* format : writable_formats()) {
    if (is_float(*format)) continue;
    for (const auto& [input, fill] : inputs) {
      std::vector<float> in(256);
      for (size_t i = 0; i < in.size(); ++i) in[i] = fill(i);
      for (const float got : round_trip(*format, in, nullptr))
        ASSERT_TRUE(std::isfinite(got)) << format->name << ", " << input;
      for (const auto& [kind, weigh] : weights) {
        std::vector<float> importance(256);
        for (size_t i = 0; i < importance.size(); ++i) importance[i] = weigh(i);
        for (const float got : round_trip(*format, in, importance.data()))
          ASSERT_TRUE(std::isfinite(got)) << format->name << ", " << input << ", importance " << kind;
      }
    }
  }
}

// A NaN says nothing about the values beside it. IQ4_NL without importance falls back on a plain scale.
TEST(Encode, NanLeavesTheOtherValuesAlone) {
  for (const Format* format : writable_formats()) {
    const std::vector<float> clean = normal_values(256, 0.0f, 0.02f, 23);
    const std::vector<float> ones(256, 1.0f);
    std::vector<float> in = clean;
    for (size_t i = 5; i < in.size(); i += 32) in[i] = kNan;
    for (const float* weights : {static_cast<const float*>(nullptr), ones.data()}) {
      std::vector<float> out = round_trip(*format, in, weights);
      for (size_t i = 5; i < in.size(); i += 32) out[i] = clean[i];
      EXPECT_LE(rmse(clean, out, nullptr), 1.5 * rmse(clean, round_trip(*format, clean, weights), nullptr))
          << format->name;
    }
  }
}

// What is too large for the format comes out as large as it can be, with its sign.
TEST(Encode, TooLargeValuesAreHeldNotLost) {
  for (const Format* format : writable_formats()) {
    if (is_float(*format)) continue;
    const std::vector<float> importance(256, 1.0f);
    std::vector<float> in(256);
    for (size_t i = 0; i < in.size(); ++i) in[i] = i % 2 == 0 ? 1e30f : -1e30f;
    for (const float* weights : {static_cast<const float*>(nullptr), importance.data()}) {
      const std::vector<float> out = round_trip(*format, in, weights);
      for (size_t i = 0; i < in.size(); ++i) {
        EXPECT_EQ(std::signbit(out[i]), std::signbit(in[i])) << format->name << ", weight " << i;
        EXPECT_GE(std::abs(out[i]), 65504.0f) << format->name << ", weight " << i;
      }
    }
  }
}

// Importance without information is no importance: zeros, NaN or any constant give the bytes of ones.
TEST(Encode, EvenImportanceIsEvenWhateverItsSize) {
  const std::vector<float> in = normal_values(512, 0.0f, 0.02f, 17);
  for (const Format* format : writable_formats()) {
    const std::vector<float> ones(512, 1.0f);
    const std::string expected = encode_all(*format, in, ones.data());
    for (const float value : {0.0f, 4.0f, 0x1p-20f, -1.0f, kNan}) {
      const std::vector<float> importance(512, value);
      EXPECT_EQ(encode_all(*format, in, importance.data()), expected) << format->name << ", " << value;
    }
  }
}

TEST(Encode, ImportanceThatIsNoNumberCountsAsZero) {
  const std::vector<float> in = normal_values(256, 0.0f, 0.02f, 29);
  for (const Format* format : writable_formats()) {
    std::vector<float> importance = over_rows(reference_floats("imatrix.f32"), in.size());
    importance[7] = importance[100] = 0;
    const std::string expected = encode_all(*format, in, importance.data());
    importance[7] = kNan;
    importance[100] = -5.0f;
    EXPECT_EQ(encode_all(*format, in, importance.data()), expected) << format->name;
  }
}

TEST(Encode, WritesExactlyTheBlocksAskedFor) {
  constexpr char kGuard = 0x5a;
  for (const Format* format : writable_formats()) {
    for (const int n_blocks : {0, 1, 3}) {
      const int64_t n = int64_t{n_blocks} * format->block_elems;
      const std::vector<float> in = normal_values(static_cast<size_t>(n), 0.0f, 1.0f, 19);
      const auto size_bytes = static_cast<size_t>(row_bytes(*format, n));
      std::string blocks(size_bytes + 64, kGuard);
      format->encode(in.data(), nullptr, blocks.data(), n);
      EXPECT_EQ(blocks.substr(size_bytes), std::string(64, kGuard)) << format->name;
      EXPECT_EQ(blocks.substr(0, size_bytes), encode_all(*format, in, nullptr)) << format->name;
    }
  }
}

}  // namespace
}  // namespace packmule::quant
