#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <random>
#include <set>

#include "sampling/portable_exp.h"

namespace {
std::atomic<int64_t> n_allocations{0};
}

// Counting allocations. Not inlined: the compiler would take free() for the wrong partner of new.
[[gnu::noinline]] void* operator new(size_t size) {
  ++n_allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace packmule::sampling {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Params off() {
  Params params;
  params.temperature = 1.0f;
  params.top_k = 0;
  params.top_p = 1.0f;
  params.min_p = 0.0f;
  params.seed = 42;
  return params;
}

std::vector<float> random_logits(std::mt19937& random, size_t n, float spread) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

using Distribution = std::map<int32_t, double>;

/// The chain as the header states it, in the plainest way: everything in double, everything sorted.
Distribution by_definition(const std::vector<float>& logits, const Params& params) {
  std::vector<std::pair<double, int32_t>> left;  // (-logit, id): ascending is most probable first
  for (size_t id = 0; id < logits.size(); ++id) left.emplace_back(-logits[id], static_cast<int32_t>(id));
  std::sort(left.begin(), left.end());
  if (params.top_k > 0) left.resize(std::min(left.size(), static_cast<size_t>(params.top_k)));
  const auto softmax = [&](double temperature) {
    std::vector<double> p;
    double total = 0;
    for (const auto& [minus, id] : left) p.push_back(std::exp((left[0].first - minus) / temperature));
    for (const double x : p) total += x;
    for (double& x : p) x /= total;
    return p;
  };
  const std::vector<double> p = softmax(1.0);
  size_t keep = left.size();
  double sum = 0;
  for (size_t i = 0; i < left.size() && params.top_p < 1; ++i) {
    sum += p[i];
    if (sum >= params.top_p) {
      keep = i + 1;
      break;
    }
  }
  while (keep > 1 && p[keep - 1] < params.min_p * p[0]) --keep;
  left.resize(keep);
  const std::vector<double> last = softmax(params.temperature);
  Distribution result;
  for (size_t i = 0; i < left.size(); ++i) result[left[i].second] = last[i];
  return result;
}

void expect_candidates(const Sampler& sampler, const Distribution& expected, const std::string& what) {
  ASSERT_EQ(sampler.candidates().size(), expected.size()) << what;
  for (const Candidate& candidate : sampler.candidates()) {
    ASSERT_TRUE(expected.contains(candidate.id)) << what << ", token " << candidate.id;
    // Weights are rounded to float (6e-8 relative) before they are summed and once after.
    ASSERT_NEAR(candidate.probability, expected.at(candidate.id), 1e-6 * expected.at(candidate.id) + 1e-37)
        << what << ", token " << candidate.id;
  }
  const size_t sure = std::min(kSortedCandidates, sampler.candidates().size());
  for (size_t i = 1; i < sure; ++i)
    ASSERT_GE(sampler.candidates()[i - 1].probability, sampler.candidates()[i].probability) << what;
}

TEST(Sampler, CandidatesAgreeWithTheDefinition) {
  std::mt19937 random(3);
  for (int round = 0; round < 600; ++round) {
    const size_t n = std::vector<size_t>{1, 2, 7, 50, 600, 5000}[random() % 6];
    std::vector<float> logits = random_logits(random, n, 0.1f + static_cast<float>(random() % 50) / 10.0f);
    Params params = off();
    params.temperature = std::vector<float>{0.05f, 0.7f, 1.0f, 5.0f}[random() % 4];
    params.top_k = std::vector<int32_t>{-1, 0, 1, 3, 20, 400, 100000}[random() % 7];
    params.top_p = std::vector<float>{0.0f, 0.3f, 0.8f, 0.95f, 0.9999f, 1.0f}[random() % 6];
    params.min_p = std::vector<float>{0.0f, 0.001f, 0.05f, 0.5f, 1.0f}[random() % 5];
    if (round % 3 == 0) {
      // Ties, of which top-k takes the lowest ids. Not with top-p, where they can end a hair beside its edge.
      for (float& logit : logits) logit = std::round(logit);
      params.top_p = 1.0f;
    }
    Sampler sampler(params, static_cast<int64_t>(n), {});
    const int32_t drawn = sampler.sample(logits);
    const std::string what = fmt::format("round {}: n {} temperature {} top_k {} top_p {} min_p {}", round, n,
                                         params.temperature, params.top_k, params.top_p, params.min_p);
    const Distribution expected = by_definition(logits, params);
    ASSERT_TRUE(expected.contains(drawn)) << what;
    expect_candidates(sampler, expected, what);
  }
}

TEST(Sampler, DrawsByTheProbabilities) {
  // 10 tokens, so 9 degrees of freedom or fewer: chi-square exceeds 33.7 once in 10,000 seeds, and an error
  // of 2 % in a probability of 0.1 adds 0.02^2 * 0.1 * 400,000 = 16 in one bin alone.
  constexpr int kDraws = 400'000;
  std::mt19937 random(5);
  for (int round = 0; round < 6; ++round) {
    const std::vector<float> logits = random_logits(random, 10, 1.0f);
    Params params = off();
    params.temperature = std::vector<float>{1.0f, 0.7f, 5.0f}[round % 3];
    if (round >= 3) {
      params.top_k = 8;
      params.top_p = 0.9f;
      params.min_p = 0.05f;
    }
    Sampler sampler(params, 10, {});
    std::map<int32_t, int> counts;
    for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits)];
    double chi_square = 0;
    const Distribution expected = by_definition(logits, params);
    for (const auto& [id, p] : expected) {
      chi_square += std::pow(counts[id] - p * kDraws, 2) / (p * kDraws);
      counts.erase(id);
    }
    EXPECT_TRUE(counts.empty()) << "a token outside of the candidates was drawn";
    EXPECT_LT(chi_square, 33.7) << "round " << round;
  }
}

TEST(Sampler, FiltersRunInTheStatedOrder) {
  // Probabilities 0.4, 0.3, 0.2, 0.1. Each expectation fails if two filters change places.
  const std::vector<float> logits = {std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
  const auto kept = [&](auto&& change) {
    Params params = off();
    change(params);
    Sampler sampler(params, 4, {});
    (void)sampler.sample(logits);
    std::vector<int32_t> ids;
    for (const Candidate& candidate : sampler.candidates()) ids.push_back(candidate.id);
    return ids;
  };
  using Ids = std::vector<int32_t>;
  // top-p counts within top-k: of 4/7, 3/7 the first alone reaches 0.55; of 0.4, 0.3 it does not.
  EXPECT_EQ(kept([](Params& p) { p.top_k = 2, p.top_p = 0.55f; }), (Ids{0}));
  EXPECT_EQ(kept([](Params& p) { p.top_p = 0.55f; }), (Ids{0, 1}));
  // min-p and top-p look at the probabilities before temperature: after it 0.1 would be 0.7 of 0.4.
  EXPECT_EQ(kept([](Params& p) { p.min_p = 0.3f, p.temperature = 4.0f; }), (Ids{0, 1, 2}));
  EXPECT_EQ(kept([](Params& p) { p.top_p = 0.65f, p.temperature = 4.0f; }), (Ids{0, 1}));
  // Bias comes first of all.
  EXPECT_EQ(kept([](Params& p) { p.top_k = 1, p.logit_bias = {{3, 5.0f}}; }), (Ids{3}));
  EXPECT_EQ(kept([](Params& p) { p.logit_bias = {{0, -kInf}, {2, -kInf}}; }), (Ids{1, 3}));
  // The smallest set that reaches p: 0.4 + 0.3 reaches 0.7 itself.
  EXPECT_EQ(kept([](Params& p) { p.top_p = 0.7f; }), (Ids{0, 1}));
  EXPECT_EQ(kept([](Params& p) { p.top_p = 0.0f; }), (Ids{0}));
}

/// The logits that penalties leave, read from the candidates.
std::map<int32_t, float> penalized(const Params& params, const std::vector<float>& logits,
                                   const std::vector<int32_t>& seen) {
  Sampler sampler(params, static_cast<int64_t>(logits.size()), {});
  for (const int32_t id : seen) sampler.accept(id);
  (void)sampler.sample(logits);
  std::map<int32_t, float> result;
  for (const Candidate& candidate : sampler.candidates()) result[candidate.id] = candidate.logit;
  return result;
}

TEST(Sampler, PenaltiesByHand) {
  const std::vector<float> logits = {2.0f, -2.0f, 1.0f, 0.0f, 3.0f};
  using Logits = std::map<int32_t, float>;
  Params params = off();
  params.repeat_penalty = 2.0f;
  EXPECT_EQ(penalized(params, logits, {0, 1, 1, 3}), (Logits{{0, 1}, {1, -4}, {2, 1}, {3, 0}, {4, 3}}));
  params.frequency_penalty = 0.5f;
  EXPECT_EQ(penalized(params, logits, {0, 1, 1}), (Logits{{0, 0.5}, {1, -5}, {2, 1}, {3, 0}, {4, 3}}));
  params.presence_penalty = 0.25f;
  EXPECT_EQ(penalized(params, logits, {0, 1, 1}), (Logits{{0, 0.25}, {1, -5.25}, {2, 1}, {3, 0}, {4, 3}}));
  params.repeat_penalty = 1.0f;
  params.frequency_penalty = 0.0f;
  params.presence_penalty = -0.25f;  // encourages
  EXPECT_EQ(penalized(params, logits, {4, 4}), (Logits{{0, 2}, {1, -2}, {2, 1}, {3, 0}, {4, 3.25}}));
  // Bias before penalties: (2 + 4) / 2, not 2 / 2 + 4.
  params = off();
  params.repeat_penalty = 2.0f;
  params.logit_bias = {{0, 4.0f}};
  EXPECT_EQ(penalized(params, logits, {0}).at(0), 3.0f);
  // An id that no token has takes a place in the window and does no harm.
  EXPECT_EQ(penalized(params, logits, {-1, 5, 1 << 30}).at(1), -2.0f);
}

TEST(Sampler, PenaltiesLookAtTheWindowOnly) {
  const std::vector<float> logits(300, 1.0f);
  std::mt19937 random(9);
  for (const int32_t window : {0, 1, 2, 7, 64, -1}) {
    Params params = off();
    params.frequency_penalty = 1.0f;
    params.repeat_last_n = window;
    std::vector<int32_t> seen;
    for (int i = 0; i < 200; ++i) seen.push_back(static_cast<int32_t>(random() % 20));
    std::map<int32_t, int> counts;
    for (size_t i = 0; i < seen.size(); ++i)
      if (window < 0 || seen.size() - i <= static_cast<size_t>(window)) ++counts[seen[i]];
    for (const auto& [id, logit] : penalized(params, logits, seen))
      EXPECT_EQ(logit, 1.0f - static_cast<float>(counts[id])) << "window " << window << ", token " << id;
  }
}

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  Params params = off();
  for (const float temperature : {0.0f, -1.0f}) {
    params.temperature = temperature;
    params.top_k = 1;
    Sampler sampler(params, 6, {1});
    EXPECT_EQ(sampler.sample(std::vector<float>{0, 9, 5, 5, kNan, -kInf}), 2);
    ASSERT_EQ(sampler.candidates().size(), 1u);
    EXPECT_EQ(sampler.candidates()[0].id, 2);
    EXPECT_EQ(sampler.candidates()[0].probability, 1.0f);
    EXPECT_EQ(sampler.sample(std::vector<float>{-1, -2, -3, -4, -5, -0.5f}), 5);
  }
  params.repeat_penalty = 10.0f;
  Sampler sampler(params, 3, {});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2}), 1);
  sampler.accept(1);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2}), 2) << "greedy comes after the penalties";
}

TEST(Sampler, NeverDrawsPadding) {
  std::mt19937 random(13);
  for (const float temperature : {0.0f, 0.7f, 5.0f}) {
    for (const int32_t top_k : {0, 5}) {
      Params params = off();
      params.temperature = temperature;
      params.top_k = top_k;
      params.logit_bias = {{3, 100.0f}};
      const std::vector<int32_t> never = {3, 7, 7, 40, -5, 1000};  // ids out of range are no matter
      Sampler sampler(params, 50, never);
      for (int i = 0; i < 300; ++i) {
        std::vector<float> logits = random_logits(random, 50, 1.0f);
        logits[7] = kInf;
        logits[40] = 50.0f;
        const int32_t drawn = sampler.sample(logits);
        ASSERT_TRUE(drawn >= 0 && drawn < 50 && drawn != 3 && drawn != 7 && drawn != 40) << drawn;
      }
    }
  }
}

TEST(Sampler, FallsBackToTheLowestIdThatMayBeDrawn) {
  for (const float temperature : {0.0f, 1.0f}) {
    for (const float nothing : {-kInf, kNan}) {
      Params params = off();
      params.temperature = temperature;
      Sampler sampler(params, 4, {0, 1});
      EXPECT_EQ(sampler.sample(std::vector<float>{9, 9, nothing, nothing}), 2);
      EXPECT_EQ(sampler.sample(std::vector<float>{9, 9, nothing, 0}), 3);
      Sampler none(params, 2, {0, 1});
      EXPECT_EQ(none.sample(std::vector<float>{1, 2}), -1);
    }
  }
}

TEST(Sampler, StrangeLogitsDoNotCrash) {
  const float huge = std::numeric_limits<float>::max();
  const float tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> values = {kNan, kInf, -kInf, huge, -huge, tiny, -tiny, 0.0f, 1.0f, -1.0f};
  std::mt19937 random(17);
  for (int round = 0; round < 2000; ++round) {
    std::vector<float> logits(1 + random() % 20);
    for (float& logit : logits) logit = values[random() % values.size()];
    Params params = off();
    params.temperature = std::vector<float>{0.0f, tiny, 1e-20f, 1.0f, huge, kNan, kInf}[random() % 7];
    params.top_k = static_cast<int32_t>(random() % 4);
    params.top_p = std::vector<float>{1.0f, 0.5f, kNan, -1.0f}[random() % 4];
    params.min_p = std::vector<float>{0.0f, 0.5f, kNan, 7.0f}[random() % 4];
    params.presence_penalty = std::vector<float>{0.0f, huge, -kInf}[random() % 3];
    params.repeat_penalty = std::vector<float>{1.0f, huge, tiny}[random() % 3];
    Sampler sampler(params, static_cast<int64_t>(logits.size()), {});
    sampler.accept(0);
    const int32_t drawn = sampler.sample(logits);
    ASSERT_TRUE(drawn >= 0 && static_cast<size_t>(drawn) < logits.size());
  }
}

TEST(Sampler, AnInfiniteLogitIsCertain) {
  Sampler sampler(off(), 3, {});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(sampler.sample(std::vector<float>{1.0f, kInf, 2.0f}), 1);
}

TEST(Sampler, SameSeedSameTokens) {
  std::mt19937 random(19);
  const std::vector<float> logits = random_logits(random, 2000, 1.0f);
  const auto draw = [&](uint32_t seed, int32_t top_k) {
    Params params = off();
    params.top_k = top_k;
    params.seed = seed;
    Sampler sampler(params, 2000, {});
    EXPECT_EQ(sampler.seed(), seed);
    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(sampler.sample(logits));
    return ids;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 0));
  EXPECT_EQ(draw(1, 500), draw(1, 500));
  EXPECT_NE(draw(1, 0), draw(2, 0));
  EXPECT_NE(draw(0, 0), draw(1, 0));
}

TEST(Sampler, RandomSeedIsDrawnAndShown) {
  Params params = off();
  params.seed = kRandomSeed;
  std::set<uint32_t> seeds;
  for (int i = 0; i < 4; ++i) seeds.insert(Sampler(params, 10, {}).seed());
  EXPECT_GT(seeds.size(), 1u);
  EXPECT_FALSE(seeds.contains(kRandomSeed));
}

// The generator's published algorithm, worked out with Python's integers for seed 42.
TEST(RandomBits, KnownValues) {
  RandomBits random(42);
  EXPECT_EQ(random.next(), 0x15780b2e0c2ec716u);
  EXPECT_EQ(random.next(), 0x6104d9866d113a7eu);
  EXPECT_EQ(random.next(), 0xae17533239e499a1u);
  for (int i = 0; i < 1000; ++i) {
    const double unit = random.next_unit();
    ASSERT_TRUE(unit >= 0.0 && unit < 1.0);
  }
}

TEST(PortableExp, AgreesWithTheLibrary) {
  EXPECT_EQ(portable_exp(0.0), 1.0);
  EXPECT_EQ(portable_exp(-kInf), 0.0);
  EXPECT_EQ(portable_exp(kNan), 0.0);
  EXPECT_EQ(portable_exp(-1e300), 0.0);
  std::mt19937_64 random(23);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  for (int i = 0; i < 200'000; ++i) {
    const double x = -708.0 * std::pow(uniform(random), 6);  // many near 0
    // The library's error is below an ulp (1.1e-16), ours is stated to be about 1e-15.
    ASSERT_NEAR(portable_exp(x) / std::exp(x), 1.0, 1.5e-15) << x;
  }
}

TEST(Sampler, DoesNotAllocateWhileSampling) {
  std::mt19937 random(29);
  constexpr int64_t kVocabulary = 151'936;
  const std::vector<float> logits = random_logits(random, kVocabulary, 3.0f);
  for (const int32_t top_k : {0, 1, 20, 5000}) {
    for (const float top_p : {0.8f, 0.99999f, 1.0f}) {
      Params params = off();
      params.top_k = top_k;
      params.top_p = top_p;
      params.min_p = 0.0001f;
      params.repeat_penalty = 1.1f;
      Sampler sampler(params, kVocabulary, {1, 2, 3});
      sampler.accept(7);
      const int64_t before = n_allocations;
      for (int i = 0; i < 3; ++i) (void)sampler.sample(logits);
      EXPECT_EQ(n_allocations, before) << "top_k " << top_k << ", top_p " << top_p;
    }
  }
}

std::vector<uint64_t> mask_of(size_t n, const std::set<int32_t>& ids) {
  std::vector<uint64_t> mask((n + 63) / 64);
  for (const int32_t id : ids) mask[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
  return mask;
}

TEST(Sampler, DrawsOnlyWhatTheMaskAllows) {
  std::mt19937 random(5);
  constexpr size_t kVocab = 300;
  for (int round = 0; round < 200; ++round) {
    Params params = off();
    params.temperature = round % 4 == 0 ? 0.0f : 1.0f;
    params.top_k = round % 3 == 0 ? 0 : 5;
    params.top_p = round % 5 == 0 ? 0.9f : 1.0f;
    std::set<int32_t> allowed;
    for (int i = 0; i < 1 + round % 7; ++i) allowed.insert(static_cast<int32_t>(random() % kVocab));
    const auto logits = random_logits(random, kVocab, 5.0f);
    Sampler sampler(params, kVocab, {});
    const auto mask = mask_of(kVocab, allowed);
    // The same as if the others had been impossible.
    std::vector<float> only = logits;
    for (size_t id = 0; id < kVocab; ++id)
      if (!allowed.contains(static_cast<int32_t>(id))) only[id] = -kInf;
    Sampler plain(params, kVocab, {});
    for (int i = 0; i < 10; ++i) {
      const int32_t token = sampler.sample(logits, mask);
      EXPECT_TRUE(allowed.contains(token));
      EXPECT_EQ(token, plain.sample(only));
    }
  }
}

TEST(Sampler, TheMaskHoldsWhenAllThatItAllowsIsImpossible) {
  const std::vector<float> logits(100, -kInf);
  for (const float temperature : {0.0f, 1.0f}) {
    Params params = off();
    params.temperature = temperature;
    Sampler sampler(params, 100, {70});
    EXPECT_EQ(sampler.sample(logits, mask_of(100, {70, 81, 99})), 81);
    EXPECT_EQ(sampler.sample(logits, mask_of(100, {70})), -1);
    EXPECT_EQ(sampler.sample(logits, mask_of(64, {3})), 3) << "what is beyond the mask is not allowed";
    EXPECT_EQ(sampler.sample(logits, mask_of(100, {})), -1);
  }
}

}  // namespace
}  // namespace packmule::sampling
