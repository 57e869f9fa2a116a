#include "sampling/logprobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace packmule::sampling {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<TokenLogprob> of(const std::vector<float>& logits, int32_t drawn, int32_t n_top,
                             const std::vector<int32_t>& padding = {}) {
  std::vector<TokenLogprob> out = {{7, 7}};  // what it held before is no matter
  log_probabilities(logits, padding, drawn, n_top, out);
  return out;
}

std::vector<int32_t> ids(const std::vector<TokenLogprob>& tokens) {
  std::vector<int32_t> out;
  for (const TokenLogprob& token : tokens) out.push_back(token.id);
  return out;
}

TEST(Logprobs, AreTheSoftmaxByDefinition) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 4.0f);
  for (const size_t n : {1, 2, 5, 300, 5000}) {
    std::vector<float> logits(n);
    for (float& logit : logits) logit = normal(random);
    double total = 0;
    for (const float logit : logits) total += std::exp(double{logit});
    std::vector<int32_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    for (const int32_t n_top : {0, 1, 5, 20, 10'000}) {
      const auto drawn = static_cast<int32_t>(random() % n);
      const auto found = of(logits, drawn, n_top);
      ASSERT_EQ(found.size(), 1 + std::min(n, static_cast<size_t>(n_top)));
      EXPECT_EQ(found[0].id, drawn);
      for (size_t i = 1; i < found.size(); ++i) ASSERT_EQ(found[i].id, order[i - 1]) << i;
      // Floats of a size of up to 40 are rounded by up to 2e-6.
      for (const TokenLogprob& token : found)
        ASSERT_NEAR(token.logprob, std::log(std::exp(double{logits[static_cast<size_t>(token.id)]}) / total),
                    4e-6);
    }
  }
}

TEST(Logprobs, EqualTokensStandInTheOrderOfTheirIds) {
  EXPECT_EQ(ids(of({1, 2, 2, 1, 2}, 3, 3)), (std::vector<int32_t>{3, 1, 2, 4}));
  EXPECT_EQ(ids(of({2, 1, 2, 2, 1}, 0, 4)), (std::vector<int32_t>{0, 0, 2, 3, 1}));
}

TEST(Logprobs, PaddingIsNoToken) {
  const auto found = of({9, 0, 9, 0, 9}, 1, 5, {0, 2, 4});
  EXPECT_EQ(ids(found), (std::vector<int32_t>{1, 1, 3}));
  for (const TokenLogprob& token : found) EXPECT_FLOAT_EQ(token.logprob, std::log(0.5f));
}

TEST(Logprobs, StrangeLogits) {
  const auto found = of({kNan, -kInf, 0, kInf}, 0, 4);
  EXPECT_EQ(ids(found), (std::vector<int32_t>{0, 3, 2, 0, 1}));
  EXPECT_EQ(found[0].logprob, -kInf);
  EXPECT_EQ(found[1].logprob, 0.0f);
  EXPECT_LT(found[2].logprob, -1e30f);
  for (const TokenLogprob& token : of({-kInf, kNan}, 1, 2)) EXPECT_EQ(token.logprob, -kInf);
}

}  // namespace
}  // namespace packmule::sampling
