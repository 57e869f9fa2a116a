// The small ops: ref against the formulas in double, every other variant against ref.
#include "base/cpu.h"
#include "kernels/ops_for_test.h"

namespace packmule::kernels {
namespace {

using testing_support::Doubles;
using testing_support::expect_close;
using testing_support::expect_same_bits;
using testing_support::Floats;
using testing_support::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Nothing, one, odd, prime, around 8 and 16 lanes and around the four vectors of the sums, a model's width.
constexpr int64_t kSizes[] = {0,  1,  2,  3,  7,  8,  9,   13,  15,  16,  17,
                              31, 32, 33, 63, 64, 65, 127, 128, 257, 2048};

// ref rounds once, from double: half a unit in the last place is 2^-24.
constexpr double kOneRounding = 0x1.01p-24;
// Results this small no longer have all their digits, and the quotients of the vector variants may be zero.
constexpr double kTiny = 1e-36;

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

class Ops : public testing_support::IsaTest {
 protected:
  /// run(kernels) -> Floats. ref is held to the formula, the others to ref, within `relative`.
  template <class Run>
  void expect_op(Run run, const Doubles& formula, double relative, double absolute = kTiny) {
    if (is_ref())
      expect_close(run(ref()), formula, kOneRounding, kTiny);
    else
      expect_close(run(kernels()), run(ref()), relative, absolute);
  }
};
PACKMULE_FOR_EACH_ISA(Ops);

// The binding below has one name for each member of Kernels: a new op does not compile until it is added
// here, and the test then fails until a test called after it exists.
TEST(KernelTable, EveryOpIsSetAndTested) {
  std::vector<std::string> tests;
  const auto& unit = *::testing::UnitTest::GetInstance();
  for (int s = 0; s < unit.total_test_suite_count(); ++s)
    for (int t = 0; t < unit.GetTestSuite(s)->total_test_count(); ++t)
      tests.push_back(unit.GetTestSuite(s)->GetTestInfo(t)->name());
  for (Isa isa_of_table : testing_support::kIsasWithOps) {
    if (!isa_usable(isa_of_table)) continue;
    const auto& [isa, matmul, decode, rms_norm, rms_norm_gated, l2_norm, swiglu, sigmoid_gate, quantize, axpy,
                 dot, rope, conv_silu, router_top_k, delta_gates, delta_recurrent, delta_chunked, attention] =
        kernels_for(isa_of_table);
    EXPECT_EQ(isa, isa_of_table);
    EXPECT_EQ(std::size(matmul), std::size(decode));  // both have a test binary of their own
    const auto expect_op = [&](const char* name, bool set) {
      EXPECT_TRUE(set) << name << " of " << isa_name(isa_of_table) << " is null";
      const std::string wanted = std::string(name) + "/" + std::string(isa_name(isa_of_table));
      EXPECT_TRUE(std::find(tests.begin(), tests.end(), wanted) != tests.end()) << "no test named " << wanted;
    };
#define EXPECT_OP(op) expect_op(#op, (op) != nullptr)
    EXPECT_OP(rms_norm);
    EXPECT_OP(rms_norm_gated);
    EXPECT_OP(l2_norm);
    EXPECT_OP(swiglu);
    EXPECT_OP(sigmoid_gate);
    EXPECT_OP(quantize);
    EXPECT_OP(axpy);
    EXPECT_OP(dot);
    EXPECT_OP(rope);
    EXPECT_OP(conv_silu);
    EXPECT_OP(router_top_k);
    EXPECT_OP(delta_gates);
    EXPECT_OP(delta_recurrent);
    EXPECT_OP(delta_chunked);
    EXPECT_OP(attention);
#undef EXPECT_OP
  }
}

// The norms: a sum of squares (all positive, so its error is a few units), a root, a division and up to three
// products, each within 2^-24.
constexpr double kNormTolerance = 8e-7;

TEST_P(Ops, rms_norm) {
  for (int64_t n : kSizes) {
    Random random(1 + static_cast<uint32_t>(n));
    const Floats x = random.normal(n, 3.0f), weight = random.normal(n);
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    Doubles formula;
    for (int64_t i = 0; i < n; ++i)
      formula.push_back(x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-6f) * weight[i]);
    const auto run = [&](const Kernels& k) {
      Floats y(x.size(), kNaN);
      k.rms_norm(x.data(), weight.data(), 1e-6f, n, y.data());
      Floats in_place = x;
      k.rms_norm(in_place.data(), weight.data(), 1e-6f, n, in_place.data());
      expect_same_bits(in_place, y);
      return y;
    };
    expect_op(run, formula, kNormTolerance);
  }
}

TEST_P(Ops, EpsilonOfNorms) {
  // Inputs so small that the result hangs on eps: 1e-5 for 1e-6 would be far off.
  const Floats x = {1e-3f, -2e-3f, 5e-4f}, one = {1, 1, 1};
  const double squares = 1e-6 + 4e-6 + 2.5e-7;
  Floats y(3);
  kernels().rms_norm(x.data(), one.data(), 1e-6f, 3, y.data());
  EXPECT_NEAR(y[1], -2e-3 / std::sqrt(squares / 3 + 1e-6), 1e-6);
  kernels().l2_norm(x.data(), 1e-6f, 1.0f, 3, y.data());
  EXPECT_NEAR(y[1], -2e-3 / std::sqrt(squares + 1e-6), 1e-6);
  const Floats zero(3, 0.0f);
  kernels().l2_norm(zero.data(), 1e-6f, 1.0f, 3, y.data());
  EXPECT_EQ(y, zero);
}

TEST_P(Ops, rms_norm_gated) {
  for (int64_t n : kSizes) {
    Random random(2 + static_cast<uint32_t>(n));
    const Floats x = random.normal(n, 0.1f), weight = random.normal(n), z = random.normal(n, 4.0f);
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    Doubles formula;
    for (int64_t i = 0; i < n; ++i)
      formula.push_back(x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-6f) * weight[i] * z[i] *
                        sigmoid(z[i]));
    const auto run = [&](const Kernels& k) {
      Floats y(x.size(), kNaN);
      k.rms_norm_gated(x.data(), weight.data(), z.data(), 1e-6f, n, y.data());
      Floats in_place = x;
      k.rms_norm_gated(in_place.data(), weight.data(), z.data(), 1e-6f, n, in_place.data());
      expect_same_bits(in_place, y);
      return y;
    };
    expect_op(run, formula, kNormTolerance + 4e-7);  // and a sigmoid
  }
}

TEST_P(Ops, l2_norm) {
  for (int64_t n : kSizes) {
    Random random(3 + static_cast<uint32_t>(n));
    const Floats x = random.normal(n, 2.0f);
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    Doubles formula;
    for (float value : x) formula.push_back(value * 0.125 / std::sqrt(squares + 1e-6f));
    const auto run = [&](const Kernels& k) {
      Floats y(x.size(), kNaN);
      k.l2_norm(x.data(), 1e-6f, 0.125f, n, y.data());
      Floats in_place = x;
      k.l2_norm(in_place.data(), 1e-6f, 0.125f, n, in_place.data());
      expect_same_bits(in_place, y);
      return y;
    };
    expect_op(run, formula, kNormTolerance);
  }
}

// e^x within 1.2e-7, then an addition, a division and a product.
constexpr double kSigmoidTolerance = 4e-7;

TEST_P(Ops, swiglu) {
  for (int64_t n : kSizes) {
    Random random(4 + static_cast<uint32_t>(n));
    const Floats gate = random.normal(n, 6.0f), up = random.normal(n);
    Doubles formula;
    for (int64_t i = 0; i < n; ++i) formula.push_back(gate[i] * sigmoid(gate[i]) * up[i]);
    const auto run = [&](const Kernels& k) {
      Floats y(gate.size(), kNaN), in_gate = gate, in_up = up;
      k.swiglu(gate.data(), up.data(), n, y.data());
      k.swiglu(in_gate.data(), up.data(), n, in_gate.data());
      k.swiglu(gate.data(), in_up.data(), n, in_up.data());
      expect_same_bits(in_gate, y);
      expect_same_bits(in_up, y);
      for (int64_t i = 0; i < n; ++i) {  // an element does not know its neighbours
        float alone = kNaN;
        k.swiglu(&gate[i], &up[i], 1, &alone);
        expect_same_bits({&alone, 1}, {&y[i], 1});
      }
      return y;
    };
    expect_op(run, formula, kSigmoidTolerance);
  }
}

TEST_P(Ops, sigmoid_gate) {
  for (int64_t n : kSizes) {
    Random random(5 + static_cast<uint32_t>(n));
    const Floats x = random.normal(n), gate = random.normal(n, 6.0f);
    Doubles formula;
    for (int64_t i = 0; i < n; ++i) formula.push_back(x[i] * sigmoid(gate[i]));
    const auto run = [&](const Kernels& k) {
      Floats y = x;
      k.sigmoid_gate(y.data(), gate.data(), n);
      return y;
    };
    expect_op(run, formula, kSigmoidTolerance);
  }
}

// Every exponent that matters, through the sigmoid, which for very negative x is e^x.
TEST_P(Ops, SigmoidOverItsWholeRange) {
  Floats gate;
  for (float x = -110; x < 110; x += 0.00317f) gate.push_back(x);
  for (float x : {0.0f, -0.0f, 1e-40f, -1e-40f, 88.72f, 88.73f, 89.0f, -87.4f, 104.0f, 1e30f, -1e30f,
                  kInfinity, -kInfinity, kNaN})
    gate.push_back(x);
  Doubles formula;
  for (float x : gate) formula.push_back(sigmoid(x));
  const auto run = [&](const Kernels& k) {
    Floats y(gate.size(), 1.0f);
    k.sigmoid_gate(y.data(), gate.data(), static_cast<int64_t>(gate.size()));
    return y;
  };
  // Two units of the exponential (2^-23 each at worst), one each of the addition and the division.
  expect_op(run, formula, 3.6e-7);
}

TEST_P(Ops, quantize) {
  constexpr int64_t kGroups = 9;
  constexpr int64_t n = kGroups * kQuantizedGroup;
  Random random(29);
  Floats x = random.normal(n);
  for (int64_t i = 0; i < 32; ++i) x[32 + i] = 0;                              // nothing to scale
  for (int64_t i = 0; i < 32; ++i) x[64 + i] *= 1e30f;                         // large
  for (int64_t i = 0; i < 32; ++i) x[96 + i] *= 1e-33f;                        // small
  for (int64_t i = 0; i < 32; ++i) x[128 + i] = static_cast<float>(i) - 0.5f;  // halves go to even
  x[128] = -127;                                                               // a scale of 1
  x[160 + 13] = -50;                                                           // an outlier
  const auto run = [&](const Kernels& k) {
    std::vector<QuantizedGroup> groups(kGroups);
    std::memset(groups.data(), 99, groups.size() * sizeof(QuantizedGroup));
    k.quantize(x.data(), n, groups.data());
    Floats all;
    for (const QuantizedGroup& group : groups) all.insert(all.end(), group.codes, group.codes + 32);
    for (const QuantizedGroup& group : groups)
      all.insert(all.end(), {group.scale, group.sum, group.half_sum[0], group.half_sum[1],
                             static_cast<float>(group.minus_sum), static_cast<float>(group.minus_half_sum[0]),
                             static_cast<float>(group.minus_half_sum[1])});
    return all;
  };
  const Floats got = run(kernels());
  expect_same_bits(got, run(ref()));
  constexpr int64_t kNumbers = 7;
  const float* numbers = got.data() + n;
  for (int64_t i = 0; i < n; ++i) {
    const float scale = numbers[i / 32 * kNumbers];
    const double value = static_cast<double>(scale) * got[i];
    // Half a step, and the roundings of the scale and of the quotient.
    ASSERT_LE(std::abs(value - x[i]), 0.5001 * scale) << i;
    ASSERT_LE(std::abs(got[i]), 127) << i;
  }
  EXPECT_EQ(got[128 + 3], 2);  // 2.5
  EXPECT_EQ(got[128 + 4], 4);  // 3.5
  EXPECT_EQ(got[160 + 13], -127);
  for (int64_t g = 0; g < kGroups; ++g, numbers += kNumbers) {
    double sums[2] = {};
    for (int64_t i = 0; i < 32; ++i) sums[i / 16] += got[32 * g + i];
    const double scale = numbers[0];
    EXPECT_NEAR(numbers[1], scale * (sums[0] + sums[1]), std::abs(scale * (sums[0] + sums[1])) * 1e-7) << g;
    EXPECT_EQ(numbers[4], -(sums[0] + sums[1])) << g;
    for (int half = 0; half < 2; ++half) {
      EXPECT_NEAR(numbers[2 + half], scale * sums[half], std::abs(scale * sums[half]) * 1e-7) << g;
      EXPECT_EQ(numbers[5 + half], -sums[half]) << g;
    }
  }
}

TEST_P(Ops, axpy) {
  for (int64_t n : kSizes) {
    Random random(6 + static_cast<uint32_t>(n));
    const Floats x = random.normal(n), before = random.normal(n);
    Doubles formula;
    for (int64_t i = 0; i < n; ++i) formula.push_back(before[i] + static_cast<double>(-1.7f) * x[i]);
    const auto run = [&](const Kernels& k) {
      Floats y = before;
      k.axpy(-1.7f, x.data(), n, y.data());
      return y;
    };
    expect_op(run, formula, 2 * kOneRounding);  // each of the two rounds the exact result once
  }
}

TEST_P(Ops, dot) {
  for (int64_t n : kSizes) {
    Random random(7 + static_cast<uint32_t>(n));
    const Floats x = random.normal(n), y = random.normal(n);
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < n; ++i) {
      sum += static_cast<double>(x[i]) * y[i];
      magnitude += std::abs(static_cast<double>(x[i]) * y[i]);
    }
    const auto run = [&](const Kernels& k) { return Floats{k.dot(x.data(), y.data(), n)}; };
    // The terms cancel: the error goes with the sum of their magnitudes. 2048 terms in 32 running sums.
    expect_op(run, {sum}, 0, 4e-7 * magnitude);
  }
}

TEST_P(Ops, rope) {
  for (int64_t n_dims : {0, 2, 4, 6, 14, 16, 18, 30, 32, 34, 64, 66, 128, 256}) {
    Random random(8 + static_cast<uint32_t>(n_dims));
    const int64_t half = n_dims / 2;
    const Floats before = random.normal(n_dims), angle = random.uniform(half, 0, 1e4f);
    Floats cos, sin;
    for (float a : angle) {
      cos.push_back(std::cos(a));
      sin.push_back(std::sin(a));
    }
    Doubles formula(before.size());
    for (int64_t i = 0; i < half; ++i) {
      formula[i] = static_cast<double>(before[i]) * cos[i] - static_cast<double>(before[i + half]) * sin[i];
      formula[i + half] =
          static_cast<double>(before[i + half]) * cos[i] + static_cast<double>(before[i]) * sin[i];
    }
    const auto run = [&](const Kernels& k) {
      Floats x = before;
      k.rope(x.data(), cos.data(), sin.data(), n_dims);
      return x;
    };
    // The difference of two products may cancel: absolute, for inputs below 4.
    expect_op(run, formula, 2 * kOneRounding, 5e-7);
  }
}

TEST_P(Ops, delta_gates) {
  for (int64_t n : kSizes)
    for (const bool biased : {false, true}) {
      Random random(9 + static_cast<uint32_t>(n));
      Floats a = random.normal(n, 12.0f);
      const Floats b = random.normal(n, 6.0f), coef = random.uniform(n, -16, 0);
      const Floats bias = biased ? random.normal(n, 2.0f) : Floats(a.size(), 0.0f);
      if (n > 64) a[3] = -100, a[5] = 95, a[7] = 3e4f, a[8] = -3e4f, a[9] = 0;
      Doubles g_formula, beta_formula;
      for (int64_t i = 0; i < n; ++i) {
        const double step = static_cast<double>(a[i]) + bias[i];
        g_formula.push_back(coef[i] * (step > 40 ? step : std::log1p(std::exp(step))));
        beta_formula.push_back(sigmoid(b[i]));
      }
      const auto gates = [&](const Kernels& k, bool want_beta) {
        Floats g(a.size(), kNaN), beta(a.size(), kNaN);
        k.delta_gates(a.data(), b.data(), coef.data(), bias.data(), n, g.data(), beta.data());
        return want_beta ? beta : g;
      };
      // An exponential, a division, a logarithm and a product. The sum a + bias is rounded too: its error, up
      // to 2^-24 of 60 where the result is not yet tiny, goes through the exponential.
      const double tolerance = 6e-7 + (biased ? 60 * 0x1p-24 : 0);
      expect_op([&](const Kernels& k) { return gates(k, false); }, g_formula, tolerance);
      expect_op([&](const Kernels& k) { return gates(k, true); }, beta_formula, kSigmoidTolerance);
    }
}

struct ConvShape {
  int64_t n_taps, n_tokens, channels;
};

Floats run_conv(const Kernels& k, const ConvShape& s, const Floats& rows, const Floats& weight,
                int64_t token_begin, int64_t token_end, int64_t begin, int64_t end, Floats out) {
  // `rows` are history and input in one, the layout the model has; strides larger than the rows need.
  const int64_t stride = s.channels + 3;
  const float* x = rows.data() + (s.n_taps - 1 + token_begin) * stride;
  k.conv_silu(x, stride, rows.data() + token_begin * stride, stride, weight.data(), s.n_taps,
              token_end - token_begin, begin, end, out.data() + token_begin * s.channels, s.channels);
  return out;
}

TEST_P(Ops, conv_silu) {
  for (int64_t n_taps = 1; n_taps <= 8; ++n_taps)
    for (int64_t n_tokens : {0, 1, 2, 3, 4, 5, 9})
      for (int64_t channels : {1, 7, 8, 9, 15, 16, 17, 40, 67}) {
        const ConvShape s{n_taps, n_tokens, channels};
        Random random(static_cast<uint32_t>(n_taps * 1000 + n_tokens * 100 + channels));
        const int64_t stride = channels + 3;
        const Floats rows = random.normal((n_taps - 1 + n_tokens) * stride);
        const Floats weight = random.normal(channels * n_taps);
        Doubles formula;
        for (int64_t t = 0; t < n_tokens; ++t)
          for (int64_t c = 0; c < channels; ++c) {
            double sum = 0;
            for (int64_t j = 0; j < n_taps; ++j)
              sum += static_cast<double>(weight[c * n_taps + j]) * rows[(t + j) * stride + c];
            formula.push_back(sum * sigmoid(sum));
          }
        const Floats empty(static_cast<size_t>(n_tokens * channels), kNaN);
        // Taps of either sign cancel: absolute, for sums of up to 8 terms below 8.
        expect_op(
            [&](const Kernels& k) { return run_conv(k, s, rows, weight, 0, n_tokens, 0, channels, empty); },
            formula, kSigmoidTolerance, 2e-6);
        // Split over channels and over calls: the same bits, and nothing outside the range is written.
        const Floats whole = run_conv(kernels(), s, rows, weight, 0, n_tokens, 0, channels, empty);
        Floats parts = empty;
        const int64_t cut = channels / 3, token_cut = n_tokens / 2;
        parts = run_conv(kernels(), s, rows, weight, 0, token_cut, 0, cut, parts);
        for (int64_t t = 0; t < n_tokens; ++t)
          for (int64_t c = t < token_cut ? cut : 0; c < channels; ++c)
            ASSERT_TRUE(std::isnan(parts[t * channels + c]));
        parts = run_conv(kernels(), s, rows, weight, 0, token_cut, cut, channels, parts);
        parts = run_conv(kernels(), s, rows, weight, token_cut, n_tokens, 0, channels, parts);
        expect_same_bits(parts, whole);
      }
}

struct Chosen {
  std::vector<int32_t> index;
  Floats weight;
};
Chosen run_router(const Kernels& kernels, const Floats& logits, int64_t k) {
  Chosen chosen{std::vector<int32_t>(static_cast<size_t>(k), -1), Floats(static_cast<size_t>(k), kNaN)};
  kernels.router_top_k(logits.data(), static_cast<int64_t>(logits.size()), k, chosen.index.data(),
                       chosen.weight.data());
  return chosen;
}

TEST_P(Ops, router_top_k) {
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{0, 0},
                                                                     {1, 1},
                                                                     {2, 1},
                                                                     {5, 5},
                                                                     {7, 3},
                                                                     {8, 8},
                                                                     {9, 2},
                                                                     {16, 10},
                                                                     {17, 10},
                                                                     {60, 4},
                                                                     {128, 8},
                                                                     {511, 10},
                                                                     {512, 10},
                                                                     {512, 1},
                                                                     {512, 512},
                                                                     {513, 64}})
    for (int shape = 0; shape < 5; ++shape) {
      Random random(static_cast<uint32_t>(n * 7 + k + shape));
      Floats logits = random.normal(n, 3.0f);
      if (shape == 1) std::sort(logits.begin(), logits.end());
      if (shape == 2) std::sort(logits.rbegin(), logits.rend());
      if (shape == 3)  // many ties
        for (float& logit : logits) logit = std::round(logit);
      if (shape == 4) std::fill(logits.begin(), logits.end(), -3.0f);
      std::vector<int32_t> order(logits.size());
      for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
      order.resize(static_cast<size_t>(k));
      Doubles all, formula;
      double total = 0, kept = 0;
      for (float logit : logits) total += std::exp(static_cast<double>(logit));
      for (int32_t i : order) kept += std::exp(static_cast<double>(logits[i])) / total;
      for (int32_t i : order) formula.push_back(std::exp(static_cast<double>(logits[i])) / total / kept);
      EXPECT_EQ(run_router(kernels(), logits, k).index, order)
          << "n " << n << " k " << k << " shape " << shape;
      // The difference to the largest logit (below 20) is rounded, then exponential, sum and division.
      expect_op([&](const Kernels& table) { return run_router(table, logits, k).weight; }, formula, 2.5e-6);
    }
}

TEST_P(Ops, RouterWithoutNumbers) {
  // Whatever comes in: k distinct indices, NaN after all numbers; a NaN among the logits makes every weight
  // NaN.
  for (int64_t n : {1, 5, 8, 17, 64, 512})
    for (int64_t k : {int64_t{1}, n / 2, n})
      for (int pattern = 0; pattern < 5; ++pattern) {
        Floats logits = Random(static_cast<uint32_t>(n)).normal(n);
        bool has_nan = false;
        for (int64_t i = 0; i < n; ++i) {
          if (pattern == 0 || (pattern == 1 && i % 3 == 0) || (pattern == 2 && i == n - 1)) {
            logits[i] = kNaN;
            has_nan = true;
          }
          if (pattern == 3) logits[i] = -kInfinity;
          if (pattern == 4 && i % 2 == 1) logits[i] = -kInfinity;
        }
        std::vector<int32_t> order(logits.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
        std::stable_sort(order.begin(), order.end(), [&](int32_t i, int32_t j) {
          return logits[i] > logits[j] || (std::isnan(logits[j]) && !std::isnan(logits[i]));
        });
        order.resize(static_cast<size_t>(k));
        const Chosen chosen = run_router(kernels(), logits, k);
        EXPECT_EQ(chosen.index, order) << "n " << n << " k " << k << " pattern " << pattern;
        for (size_t j = 0; j < chosen.index.size(); ++j) {
          const float logit = logits[chosen.index[j]], weight = chosen.weight[j];
          EXPECT_TRUE(!has_nan || std::isnan(weight));
          EXPECT_TRUE(pattern != 4 || logit != -kInfinity || weight == 0.0f);
        }
      }
}

}  // namespace
}  // namespace packmule::kernels
