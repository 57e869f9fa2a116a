#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "quant/format.h"
#include "quant/reference_data_for_test.h"

namespace packmule::quant {
namespace {

TEST(Decode, EveryBitIsThatOfTheReference) {
  for (const std::string& name : reference_names()) {
    const Format* format = find_format(name);
    ASSERT_NE(format, nullptr) << name;
    const std::string blocks = reference_bytes(name + ".blocks");
    const std::vector<float> expected = reference_floats(name + ".f32");
    ASSERT_EQ(blocks.size() % format->block_bytes, 0u) << name;
    const std::vector<float> got = decode_all(*format, blocks);
    ASSERT_EQ(got.size(), expected.size()) << name;
    ASSERT_FALSE(got.empty()) << name;
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
          << name << ", weight " << i << ": " << got[i] << " instead of " << expected[i];
  }
}

// Any number of blocks, and not a float more: a decoder that runs over is caught by the guard (and by ASan).
TEST(Decode, WritesExactlyTheElementsAskedFor) {
  constexpr float kGuard = 12345.0f;
  for (const Format& format : formats()) {
    for (const int n_blocks : {0, 1, 3}) {
      const size_t n = static_cast<size_t>(n_blocks) * format.block_elems;
      std::vector<uint32_t> blocks(static_cast<size_t>(row_bytes(format, n)) / 4 + 1, 0);
      std::vector<float> out(n + 64, kGuard);
      format.decode(blocks.data(), out.data(), static_cast<int64_t>(n));
      for (size_t i = n; i < out.size(); ++i) ASSERT_EQ(out[i], kGuard) << format.name << " wrote " << i;
      for (size_t i = 0; i < n; ++i) ASSERT_NE(out[i], kGuard) << format.name << " left out " << i;
    }
  }
}

// dot_f64 and abs_sum_f64 of the manifest, from the decoded weights in double. Both sides add the same 2048
// products in float64, perhaps in another order: 2048 roundings of 2^-53 are 2.3e-13 of the absolute sum.
constexpr double kDotTolerance = 1e-12;

void expect_dot(const std::string& what, const std::vector<float>& weights,
                const std::vector<float>& activations, const Json& expected) {
  ASSERT_EQ(weights.size(), activations.size()) << what;
  double dot = 0;
  double abs_sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double product = static_cast<double>(weights[i]) * static_cast<double>(activations[i]);
    dot += product;
    abs_sum += std::abs(product);
  }
  const double expected_sum = expected.at("abs_sum_f64").get<double>();
  EXPECT_LE(std::abs(dot - expected.at("dot_f64").get<double>()), kDotTolerance * expected_sum) << what;
  EXPECT_LE(std::abs(abs_sum - expected_sum), kDotTolerance * expected_sum) << what;
}

TEST(Decode, DotProductsAreThoseOfTheManifest) {
  const Json manifest = reference_manifest();
  for (const std::string& name : reference_names()) {
    const Format* format = find_format(name);
    ASSERT_NE(format, nullptr) << name;
    const Json& dot = manifest.at(name).at("dot");
    const std::vector<float> activations = reference_floats(dot.at("act").get<std::string>());
    expect_dot(name, decode_all(*format, reference_bytes(dot.at("blocks").get<std::string>())), activations,
               dot);
    const Json& random_half = dot.at("random_half");
    const std::string random_blocks =
        reference_bytes(name + ".blocks").substr(random_half.at("byte_offset").get<size_t>());
    expect_dot(name + " (random blocks)", decode_all(*format, random_blocks), activations, random_half);
  }
}

// A tensor's bytes are untrusted: whatever they are, decoding reads only its tables and blocks. Without a
// sanitizer this can only crash; the asan preset sees the rest.
TEST(Decode, RandomBytesAreHarmless) {
  std::mt19937 random(20240607);
  for (const Format& format : formats()) {
    const size_t n_blocks = 4096 / static_cast<size_t>(format.block_elems);
    std::string blocks(n_blocks * format.block_bytes, '\0');
    for (int round = 0; round < 20; ++round) {
      for (char& byte : blocks) byte = static_cast<char>(random());
      EXPECT_EQ(decode_all(format, blocks).size(), 4096u) << format.name;
    }
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      blocks.assign(blocks.size(), static_cast<char>(fill));
      EXPECT_EQ(decode_all(format, blocks).size(), 4096u) << format.name;
    }
  }
}

}  // namespace
}  // namespace packmule::quant
