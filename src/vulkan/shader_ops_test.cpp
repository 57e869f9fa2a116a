// The shaders between the matrices against kernels/ref.
#include "vulkan/shader_for_test.h"

namespace packmule::vulkan {
namespace {

using testing_support::expect_close;
using testing_support::expect_same_bits;
using testing_support::Floats;
using testing_support::from_device;
using testing_support::guarded;
using testing_support::kGuard;
using testing_support::Random;
using testing_support::ref;
using testing_support::to_device;
using testing_support::with_stride;
using testing_support::without_stride;

// One, odd, prime, around a workgroup of 64, a model's width.
constexpr int64_t kSizes[] = {1, 2, 3, 7, 31, 63, 64, 65, 127, 257, 2048};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// Results this small may be denormal, and a device may make them 0.
constexpr double kTiny = 1e-36;

using OpsShader = testing_support::ShaderTest;

// A sum of positive squares (its error stays at a few units of 2^-24), and a root and a division to which
// Vulkan grants 2.5 units each, and up to three products.
constexpr double kNormTolerance = 1.2e-6;
// e^x within 2 units of 2^-23 (math.glsl), an addition, a division of 2.5 units, a product.
constexpr double kSigmoidTolerance = 9e-7;

TEST_F(OpsShader, norm) {
  for (const int64_t n : kSizes) {
    constexpr int64_t kTokens = 3, kHeads = 2;
    Random random(static_cast<uint32_t>(n));
    const Floats x = random.normal(kTokens * kHeads * n, 2.0f), z = random.normal(kTokens * kHeads * n, 4.0f),
                 weight = random.normal(n);
    const int64_t head_stride = n + 1, stride = kHeads * head_stride;
    const Floats spread_x = with_stride(x, n, head_stride);
    const Buffer device_x = to_device(spread_x), device_z = to_device(with_stride(z, n, head_stride)),
                 device_weight = to_device(weight);
    for (const Norm norm : {Norm::kRms, Norm::kRmsGated, Norm::kL2}) {
      Floats expected(x.size());
      for (int64_t i = 0; i < kTokens * kHeads; ++i) {
        const float* from = x.data() + i * n;
        float* to = expected.data() + i * n;
        if (norm == Norm::kRms) ref().rms_norm(from, weight.data(), 1e-6f, n, to);
        if (norm == Norm::kRmsGated)
          ref().rms_norm_gated(from, weight.data(), z.data() + i * n, 1e-6f, n, to);
        if (norm == Norm::kL2) ref().l2_norm(from, 1e-6f, 0.125f, n, to);
      }
      const Buffer y = guarded(kTokens * stride), in_place = to_device(spread_x);
      NormArgs args{.norm = norm,
                    .x = {device_x.span(), stride, head_stride},
                    .y = {y.span(), stride, head_stride},
                    .weight = device_weight.span(),
                    .z = {device_z.span(), stride, head_stride},
                    .n = n,
                    .n_heads = kHeads,
                    .n_tokens = kTokens,
                    .eps = 1e-6f,
                    .scale = norm == Norm::kL2 ? 0.125f : 1.0f};
      run([&](Recorder& recorder) -> Status {
        PACKMULE_TRY_STATUS(ops().norm(recorder, args));
        args.x.span = args.y.span = in_place.span();
        PACKMULE_TRY_STATUS(ops().norm(recorder, args));
        args.n_tokens = 0;
        return ops().norm(recorder, args);
      });
      const Floats got = from_device<float>(y, spread_x.size());
      expect_close(without_stride(got, n, head_stride), expected, kNormTolerance + kSigmoidTolerance, kTiny);
      expect_same_bits(from_device<float>(in_place, spread_x.size()), got);
    }
  }
}

TEST_F(OpsShader, EpsilonOfNorms) {
  // Inputs so small that the result hangs on eps.
  const Floats x = {1e-3f, -2e-3f, 5e-4f}, one = {1, 1, 1};
  Floats expected(3);
  ref().rms_norm(x.data(), one.data(), 1e-5f, 3, expected.data());
  const Buffer device_x = to_device(x), weight = to_device(one);
  run([&](Recorder& recorder) {
    return ops().norm(recorder, {.x = {device_x.span(), 3, 3},
                                 .y = {device_x.span(), 3, 3},
                                 .weight = weight.span(),
                                 .n = 3,
                                 .n_tokens = 1,
                                 .eps = 1e-5f});
  });
  expect_close(from_device<float>(device_x, 3), expected, kNormTolerance, 0);
}

TEST_F(OpsShader, elementwise) {
  for (const int64_t n : kSizes) {
    constexpr int64_t kRows = 3;
    Random random(static_cast<uint32_t>(n));
    const Floats a = random.normal(kRows * n, 6.0f), b = random.normal(kRows * n, 6.0f);
    const int64_t stride = n + 5;
    const Buffer device_a = to_device(with_stride(a, n, stride)), device_b = to_device(b);
    for (const Elementwise op : {Elementwise::kSwiglu, Elementwise::kSigmoidGate, Elementwise::kAdd}) {
      Floats expected = a;
      const auto size = static_cast<int64_t>(a.size());
      if (op == Elementwise::kSwiglu) ref().swiglu(a.data(), b.data(), size, expected.data());
      if (op == Elementwise::kSigmoidGate) ref().sigmoid_gate(expected.data(), b.data(), size);
      if (op == Elementwise::kAdd) ref().axpy(1.0f, b.data(), size, expected.data());
      const Buffer y = guarded(kRows * stride), in_place = to_device(b);
      run([&](Recorder& recorder) -> Status {
        ElementwiseArgs args{op,   {device_a.span(), stride}, {device_b.span(), n}, {y.span(), stride}, n,
                             kRows};
        PACKMULE_TRY_STATUS(ops().elementwise(recorder, args));
        args.b = args.y = {in_place.span(), n};
        PACKMULE_TRY_STATUS(ops().elementwise(recorder, args));
        args.n_rows = 0;
        return ops().elementwise(recorder, args);
      });
      const Floats got =
          without_stride(from_device<float>(y, static_cast<size_t>(kRows * stride)), n, stride);
      expect_close(got, expected, op == Elementwise::kAdd ? 0x1p-24 : kSigmoidTolerance, kTiny);
      expect_same_bits(from_device<float>(in_place, got.size()), got);
    }
  }
}

// As attention's gate: values and gates of heads in turn, in rows that hold other things too.
TEST_F(OpsShader, elementwise_of_heads) {
  constexpr int64_t kRows = 3, kHeads = 5, kN = 70, kPair = 2 * kN, kGateStride = kHeads * kPair + 3;
  Random random(1);
  Floats x = random.normal(kRows * kHeads * kN);
  const Floats gates = random.normal(kRows * kGateStride, 4.0f);
  const Buffer device_x = to_device(x), device_gates = to_device(gates);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t head = 0; head < kHeads; ++head)
      ref().sigmoid_gate(x.data() + (row * kHeads + head) * kN,
                         gates.data() + row * kGateStride + head * kPair + kN, kN);
  run([&](Recorder& recorder) {
    return ops().elementwise(
        recorder,
        {.op = Elementwise::kSigmoidGate,
         .a = {device_x.span(), kHeads * kN, kN},
         .b = {device_gates.span().part(4 * kN, device_gates.span().size_bytes - 4 * kN), kGateStride, kPair},
         .y = {device_x.span(), kHeads * kN, kN},
         .n = kN,
         .n_rows = kRows,
         .n_heads = kHeads});
  });
  expect_close(from_device<float>(device_x, x.size()), x, kSigmoidTolerance, kTiny);
}

// Every exponent that matters, through the sigmoid.
TEST_F(OpsShader, SigmoidOverItsWholeRange) {
  Floats gate;
  for (float x = -110; x < 110; x += 0.0137f) gate.push_back(x);
  for (float x : {0.0f, -0.0f, 1e-40f, 88.72f, 88.73f, 89.0f, -87.2f, -87.4f, 104.0f, 1e30f, -1e30f,
                  kInfinity, -kInfinity, kNaN})
    gate.push_back(x);
  const auto n = static_cast<int64_t>(gate.size());
  Floats expected(gate.size(), 1.0f);
  ref().sigmoid_gate(expected.data(), gate.data(), n);
  const Buffer one = to_device(Floats(gate.size(), 1.0f)), device_gate = to_device(gate);
  run([&](Recorder& recorder) {
    return ops().elementwise(
        recorder,
        {Elementwise::kSigmoidGate, {one.span(), n}, {device_gate.span(), n}, {one.span(), n}, n, 1});
  });
  // Below e^-87.3 the exponential is taken for 0, which is nearer than 1.3e-38.
  expect_close(from_device<float>(one, gate.size()), expected, kSigmoidTolerance, 1.3e-38);
}

TEST_F(OpsShader, delta_gates) {
  for (const int64_t n : {1, 3, 32, 65}) {
    constexpr int64_t kTokens = 2;
    Random random(static_cast<uint32_t>(n));
    // Rows of the projections hold b and a among other things.
    const int64_t stride = 3 * n;
    const Floats rows = random.normal(kTokens * stride, 8.0f), a_coef = random.uniform(n, -16, -0.01f),
                 bias = random.normal(n);
    Floats g(static_cast<size_t>(kTokens * n)), beta(g.size());
    for (int64_t t = 0; t < kTokens; ++t)
      ref().delta_gates(rows.data() + t * stride + n, rows.data() + t * stride, a_coef.data(), bias.data(), n,
                        g.data() + t * n, beta.data() + t * n);
    const Buffer device_rows = to_device(rows), device_coef = to_device(a_coef),
                 device_bias = to_device(bias), device_g = guarded(kTokens * n),
                 device_beta = guarded(kTokens * n);
    run([&](Recorder& recorder) {
      return ops().delta_gates(recorder, {.a = {device_rows.span().part(4 * n, 8 * n), stride},
                                          .b = device_rows.span(),
                                          .a_coef = device_coef.span(),
                                          .dt_bias = device_bias.span(),
                                          .g = device_g.span(),
                                          .beta = device_beta.span(),
                                          .n_heads = n,
                                          .n_tokens = kTokens});
    });
    // Vulkan grants log an absolute error of 2^-21 between 0.5 and 2, which 1 + e^-x always is.
    expect_close(from_device<float>(device_g, g.size()), g, 4e-6, 16 * 0x1p-20);
    expect_close(from_device<float>(device_beta, beta.size()), beta, kSigmoidTolerance, kTiny);
  }
}

// As the projections hold them: of each key head's value heads first the b, then the a.
TEST_F(OpsShader, delta_gates_in_groups) {
  constexpr int64_t kGroup = 3, kGroups = 5, kN = kGroup * kGroups, kTokens = 2, kStride = 2 * kN + 1;
  Random random(1);
  const Floats rows = random.normal(kTokens * kStride, 8.0f), a_coef = random.uniform(kN, -16, -0.01f),
               bias = random.normal(kN);
  Floats g(static_cast<size_t>(kTokens * kN)), beta(g.size());
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t i = 0; i < kGroups; ++i) {
      const float* b = rows.data() + t * kStride + i * 2 * kGroup;
      ref().delta_gates(b + kGroup, b, a_coef.data() + i * kGroup, bias.data() + i * kGroup, kGroup,
                        g.data() + t * kN + i * kGroup, beta.data() + t * kN + i * kGroup);
    }
  const Buffer device_rows = to_device(rows), device_coef = to_device(a_coef), device_bias = to_device(bias),
               device_g = guarded(kTokens * kN), device_beta = guarded(kTokens * kN);
  run([&](Recorder& recorder) {
    return ops().delta_gates(recorder, {.a = {device_rows.span().part(4 * kGroup, 8), kStride},
                                        .b = device_rows.span(),
                                        .a_coef = device_coef.span(),
                                        .dt_bias = device_bias.span(),
                                        .g = device_g.span(),
                                        .beta = device_beta.span(),
                                        .n_heads = kN,
                                        .n_tokens = kTokens,
                                        .group = kGroup,
                                        .group_stride = 2 * kGroup});
  });
  expect_close(from_device<float>(device_g, g.size()), g, 4e-6, 16 * 0x1p-20);
  expect_close(from_device<float>(device_beta, beta.size()), beta, kSigmoidTolerance, kTiny);
}

TEST_F(OpsShader, rope) {
  for (const int64_t n_dims : {2, 6, 64, 130}) {
    constexpr int64_t kTokens = 3, kHeads = 2;
    const int64_t head_stride = n_dims + 4, stride = kHeads * head_stride + 1;
    Random random(static_cast<uint32_t>(n_dims));
    Floats x = random.normal(kTokens * stride);
    const Floats angles = random.uniform(kTokens * n_dims / 2, 0, 6.3f);
    Floats cosines, sines;
    for (const float angle : angles) {
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
    const Buffer device_x = to_device(x), device_cos = to_device(cosines), device_sin = to_device(sines);
    for (int64_t t = 0; t < kTokens; ++t)
      for (int64_t h = 0; h < kHeads; ++h)
        ref().rope(x.data() + t * stride + h * head_stride, cosines.data() + t * n_dims / 2,
                   sines.data() + t * n_dims / 2, n_dims);
    run([&](Recorder& recorder) {
      return ops().rope(recorder, {{device_x.span(), stride, head_stride},
                                   device_cos.span(),
                                   device_sin.span(),
                                   n_dims,
                                   kHeads,
                                   kTokens});
    });
    // Two products of numbers up to 4.5 whose difference may cancel.
    expect_close(from_device<float>(device_x, x.size()), x, 0, 1e-6);
  }
}

TEST_F(OpsShader, conv_silu) {
  for (const int64_t channels : {1, 63, 65, 200})
    for (const int64_t taps : {2, 4})
      for (const int64_t n_tokens : {0, 1, 2, 3, 9}) {
        Random random(static_cast<uint32_t>(channels + taps));
        const Floats x = random.normal(n_tokens * channels), history = random.normal((taps - 1) * channels),
                     weight = random.normal(channels * taps);
        const int64_t stride = channels + 2;
        Floats expected(x.size());
        if (n_tokens > 0)
          ref().conv_silu(x.data(), channels, history.data(), channels, weight.data(), taps, n_tokens, 0,
                          channels, expected.data(), channels);
        Floats all = history;
        all.insert(all.end(), x.begin(), x.end());
        const Buffer device_x = to_device(with_stride(x, channels, stride)),
                     device_history = to_device(history), device_weight = to_device(weight);
        run([&](Recorder& recorder) {
          const Rows rows{device_x.span(), stride};
          return ops().conv_silu(recorder, {.x = rows,
                                            .y = rows,
                                            .weight = device_weight.span(),
                                            .history = device_history.span(),
                                            .n_channels = channels,
                                            .n_taps = taps,
                                            .n_tokens = n_tokens});
        });
        const Floats got = without_stride(
            from_device<float>(device_x, static_cast<size_t>(n_tokens * stride)), channels, stride);
        // Up to four products of either sign, then silu.
        expect_close(got, expected, 2e-6, 2e-6);
        const Floats last(all.end() - static_cast<ptrdiff_t>(history.size()), all.end());
        expect_same_bits(from_device<float>(device_history, history.size()), last);
      }
}

TEST_F(OpsShader, router_top_k) {
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {3, 3}, {7, 2}, {64, 10}, {65, 8}, {512, 10}, {1024, 32}, {5, 8}}) {
    constexpr int64_t kTokens = 4;
    const int64_t stride = n + 1, chosen = std::min(n, k);
    Floats logits = Random(static_cast<uint32_t>(n)).normal(kTokens * stride, 3.0f);
    for (int64_t i = 0; i < n; ++i) logits[stride + i] = std::floor(logits[stride + i]);  // ties
    if (n > 4) logits[2 * stride + 3] = kNaN;
    logits[3 * stride] = -0.0f;
    if (n > 1) logits[3 * stride + 1] = 0.0f;
    const Buffer device_logits = to_device(logits), ids = to_device(std::vector<int32_t>(kTokens * k, -7)),
                 weights = guarded(kTokens * k);
    run([&, k = k, n = n](Recorder& recorder) {
      return ops().router_top_k(recorder,
                                {{device_logits.span(), stride}, ids.span(), weights.span(), n, k, kTokens});
    });
    const auto got_ids = from_device<int32_t>(ids, kTokens * k);
    const Floats got_weights = from_device<float>(weights, kTokens * k);
    for (int64_t t = 0; t < kTokens; ++t) {
      std::vector<int32_t> expected_ids(k, -7);
      Floats expected(k, kGuard);
      ref().router_top_k(logits.data() + t * stride, n, k, expected_ids.data(), expected.data());
      EXPECT_EQ(std::vector(got_ids.begin() + t * k, got_ids.begin() + (t + 1) * k), expected_ids)
          << k << " of " << n << ", token " << t;
      expected.resize(static_cast<size_t>(chosen));
      // An exponential, a sum of positive numbers, a division.
      expect_close(std::span(got_weights).subspan(t * k, chosen), expected, 2e-6, kTiny);
    }
  }
}

TEST_F(OpsShader, RouterRefusesMoreThanItHolds) {
  auto recorder = Recorder::begin(device());
  EXPECT_FALSE(
      ops().router_top_k(*recorder, {.n_experts = kMaxExperts + 1, .k = 1, .n_tokens = 1}).has_value());
  EXPECT_FALSE(
      ops().router_top_k(*recorder, {.n_experts = 64, .k = kMaxChosen + 1, .n_tokens = 1}).has_value());
  EXPECT_FALSE(ops().expert_sort(*recorder, {}, {.n_experts = kMaxExperts + 1}, 1).has_value());
}

TEST_F(OpsShader, expert_sum) {
  for (const int64_t n : {1, 63, 130})
    for (const bool has_shared : {false, true}) {
      constexpr int64_t kTokens = 3, kChosen = 4;
      Random random(static_cast<uint32_t>(n));
      const Floats x = random.normal(kTokens * n), y = random.normal(kTokens * kChosen * n),
                   weights = random.uniform(kTokens * kChosen, 0, 1), shared = random.normal(kTokens * n),
                   gate = random.normal(kTokens);
      std::vector<double> expected;
      for (int64_t t = 0; t < kTokens; ++t)
        for (int64_t i = 0; i < n; ++i) {
          double sum = x[t * n + i];
          for (int64_t s = 0; s < kChosen; ++s)
            sum += static_cast<double>(weights[t * kChosen + s]) * y[(t * kChosen + s) * n + i];
          if (has_shared) sum += shared[t * n + i] / (1 + std::exp(-static_cast<double>(gate[t])));
          expected.push_back(sum);
        }
      const Buffer device_x = to_device(x), device_y = to_device(y), device_weights = to_device(weights),
                   device_shared = to_device(shared), device_gate = to_device(gate);
      run([&](Recorder& recorder) {
        return ops().expert_sum(recorder, {.y = {device_y.span(), n},
                                           .x = {device_x.span(), n},
                                           .weights = device_weights.span(),
                                           .shared_y = {device_shared.span(), n},
                                           .shared_gate = has_shared ? device_gate.span() : Span{},
                                           .n = n,
                                           .k = kChosen,
                                           .n_tokens = kTokens});
      });
      // Half a dozen terms of about 1 that may cancel.
      expect_close(from_device<float>(device_x, x.size()), expected, 0, 2e-6);
    }
}

}  // namespace
}  // namespace packmule::vulkan
