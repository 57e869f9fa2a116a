// The shaders that work on a sequence's state, the delta rule and attention, against kernels/ref.
#include <numeric>

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
using testing_support::without_stride;

/// Relative L2 error of rows of n; rows shorter than 1 are held against 1, the size of the inputs.
void expect_rows_near(const Floats& got, const Floats& expected, int64_t n, double tolerance,
                      const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t row = 0; row < got.size(); row += static_cast<size_t>(n)) {
    double error = 0, size = 0;
    for (size_t i = row; i < row + static_cast<size_t>(n); ++i) {
      error += std::pow(static_cast<double>(got[i]) - expected[i], 2);
      size += std::pow(static_cast<double>(expected[i]), 2);
    }
    ASSERT_LE(std::sqrt(error), tolerance * std::max(1.0, std::sqrt(size))) << what << ", row " << row / n;
  }
}

/// A sequence of n_tokens for n_heads value heads, `per_key` of them to a key head.
class DeltaProblem {
 public:
  DeltaProblem(int64_t dk, int64_t dv, int64_t n_heads, int64_t per_key, int64_t n_tokens, float strongest)
      : dk_(dk), dv_(dv), n_heads_(n_heads), per_key_(per_key), n_tokens_(n_tokens) {
    Random random(static_cast<uint32_t>(dk + 1000 * dv + n_tokens));
    qk_stride_ = n_heads / per_key * dk + 3;
    v_stride_ = n_heads * dv + 1;
    q_ = unit_rows(random, 1 / std::sqrt(static_cast<float>(dk)));
    k_ = unit_rows(random, 1);
    v_ = random.normal(n_tokens * v_stride_);
    state_ = random.normal(n_heads * dk * dv, 0.5f);
    beta_ = random.uniform(n_tokens * n_heads, 0.001f, 0.999f);
    g_ = random.uniform(n_tokens * n_heads, 0, 1);
    // Mostly weak decay, now and then a token that forgets nearly everything.
    for (float& g : g_) g = -strongest * std::pow(g, 6.0f);
  }

  struct Outcome {
    Floats y, state;
  };

  [[nodiscard]] Outcome by_ref() const {
    Outcome outcome{Floats(static_cast<size_t>(n_tokens_ * n_heads_ * dv_)), state_};
    for (int64_t h = 0; h < n_heads_; ++h) {
      Floats scratch(static_cast<size_t>(kernels::delta_scratch_floats(dk_, dv_)));
      ref().delta_recurrent({.state = outcome.state.data() + h * dk_ * dv_,
                             .q = q_.data() + h / per_key_ * dk_,
                             .k = k_.data() + h / per_key_ * dk_,
                             .qk_stride = qk_stride_,
                             .v = v_.data() + h * dv_,
                             .v_stride = v_stride_,
                             .g = g_.data() + h,
                             .beta = beta_.data() + h,
                             .gate_stride = n_heads_,
                             .out = outcome.y.data() + h * dv_,
                             .out_stride = n_heads_ * dv_,
                             .dk = dk_,
                             .dv = dv_,
                             .n_tokens = n_tokens_,
                             .scratch = scratch.data()});
    }
    return outcome;
  }

  /// On the device, in calls of at most `piece` tokens.
  template <class Delta>
  [[nodiscard]] Outcome on_device(int64_t piece, Delta delta) const {
    const Buffer q = to_device(q_), k = to_device(k_), v = to_device(v_), g = to_device(g_),
                 beta = to_device(beta_), state = to_device(state_);
    const int64_t y_stride = n_heads_ * dv_ + 2;
    const Buffer y = guarded(n_tokens_ * y_stride);
    for (int64_t first = 0; first < n_tokens_; first += piece) {
      const auto rows = [&](const Buffer& buffer, int64_t stride) {
        return buffer.span().part(4 * first * stride, 4 * (n_tokens_ - first) * stride);
      };
      delta(DeltaArgs{.state = state.span(),
                      .q = {rows(q, qk_stride_), qk_stride_},
                      .k = rows(k, qk_stride_),
                      .v = {rows(v, v_stride_), v_stride_},
                      .y = {rows(y, y_stride), y_stride},
                      .g = rows(g, n_heads_),
                      .beta = rows(beta, n_heads_),
                      .dk = dk_,
                      .dv = dv_,
                      .n_heads = n_heads_,
                      .heads_per_key = per_key_,
                      .n_tokens = std::min(piece, n_tokens_ - first)});
    }
    return {without_stride(from_device<float>(y, static_cast<size_t>(n_tokens_ * y_stride)), n_heads_ * dv_,
                           y_stride),
            from_device<float>(state, state_.size())};
  }

 private:
  Floats unit_rows(Random& random, float length) const {
    Floats rows(static_cast<size_t>(n_tokens_ * qk_stride_), kGuard);
    for (int64_t t = 0; t < n_tokens_; ++t)
      for (int64_t h = 0; h < n_heads_ / per_key_; ++h) {
        const Floats row = random.normal(dk_);
        float* to = rows.data() + t * qk_stride_ + h * dk_;
        ref().l2_norm(row.data(), 1e-6f, length, dk_, to);
      }
    return rows;
  }

  int64_t dk_, dv_, n_heads_, per_key_, n_tokens_, qk_stride_, v_stride_;
  Floats q_, k_, v_, g_, beta_, state_;
};

class DeltaShader : public testing_support::ShaderTest {
 protected:
  // As the vector kernels of the processor: float sums of dk products and of up to 64 earlier tokens, most of
  // which cancel.
  static constexpr double kTolerance = 4e-6;

  static DeltaProblem::Outcome recurrent(const DeltaProblem& problem, int64_t piece) {
    return problem.on_device(piece, [](const DeltaArgs& args) {
      run([&](Recorder& recorder) { return ops().delta_recurrent(recorder, args); });
    });
  }
  static DeltaProblem::Outcome chunked(const DeltaProblem& problem, int64_t piece) {
    return problem.on_device(piece, [](const DeltaArgs& args) {
      const Buffer scratch = guarded(delta_scratch_bytes(args.n_tokens, args.n_heads) / 4);
      run([&](Recorder& recorder) { return ops().delta_chunked(recorder, args, scratch.span()); });
    });
  }

  template <class Form>
  static void expect_form(Form form) {
    for (const float strongest : {0.01f, 8.0f})
      for (const auto& [dk, dv] :
           std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 5}, {16, 24}, {17, 33}, {128, 128}})
        for (const int64_t n_tokens : {1, 2, 63, 64, 65, 150}) {
          SCOPED_TRACE(fmt::format("decay {}, dk {}, dv {}, {} tokens", strongest, dk, dv, n_tokens));
          const DeltaProblem problem(dk, dv, 2, 2, n_tokens, strongest);
          const auto expected = problem.by_ref();
          const auto got = form(problem, n_tokens);
          expect_rows_near(got.y, expected.y, dv, kTolerance, "output");
          expect_rows_near(got.state, expected.state, dk * dv, kTolerance, "state");
        }
    const DeltaProblem heads(32, 40, 6, 2, 70, 2.0f);
    const auto expected = heads.by_ref();
    const auto got = form(heads, 70);
    expect_rows_near(got.y, expected.y, 40, kTolerance, "output");
    expect_rows_near(got.state, expected.state, 32 * 40, kTolerance, "state");
  }
};

TEST_F(DeltaShader, delta_recurrent) {
  expect_form(recurrent);
}
TEST_F(DeltaShader, delta_chunked) {
  expect_form(chunked);
}

TEST_F(DeltaShader, InAnyPiecesTheSameBits) {
  const DeltaProblem problem(48, 41, 2, 1, 150, 2.0f);
  const auto whole = recurrent(problem, 150);
  for (const int64_t piece : {1, 7, 149}) {
    const auto pieces = recurrent(problem, piece);
    expect_same_bits(pieces.y, whole.y);
    expect_same_bits(pieces.state, whole.state);
  }
  const auto chunks = chunked(problem, 150), cut = chunked(problem, 64);
  expect_same_bits(cut.y, chunks.y);
  expect_same_bits(cut.state, chunks.state);
}

TEST_F(DeltaShader, RefusesWideKeys) {
  auto recorder = Recorder::begin(device());
  EXPECT_FALSE(
      ops().delta_recurrent(*recorder, {.dk = 257, .dv = 1, .n_heads = 1, .n_tokens = 1}).has_value());
  EXPECT_FALSE(
      ops().delta_chunked(*recorder, {.dk = 257, .dv = 1, .n_heads = 1, .n_tokens = 1}, {}).has_value());
}

class AttentionShader : public testing_support::ShaderTest {
 protected:
  struct Shape {
    quant::Type k_type = quant::Type::kF16, v_type = quant::Type::kF16;
    int64_t head_dim = 64, n_heads = 4, n_kv_heads = 2;
    std::vector<int32_t> visible = {100};
    int64_t n_splits = 1;
  };

  static void expect_attention(const Shape& s, float size = 1) {
    SCOPED_TRACE(fmt::format("{} and {}, {} heads of {}, {} KV heads, {} tokens, {} seen, {} splits",
                             quant::format_of(s.k_type).name, quant::format_of(s.v_type).name, s.n_heads,
                             s.head_dim, s.n_kv_heads, s.visible.size(), s.visible.back(), s.n_splits));
    constexpr int64_t kPage = 64;
    const int64_t n_cached = s.visible.back(), n_pages = (n_cached + kPage - 1) / kPage;
    const int64_t k_row = quant::row_bytes(quant::format_of(s.k_type), s.head_dim),
                  v_row = quant::row_bytes(quant::format_of(s.v_type), s.head_dim);
    // Another layer's part comes first in a page; the pages lie in any order.
    const int64_t k_offset = 128, v_offset = k_offset + s.n_kv_heads * kPage * k_row;
    const int64_t page_bytes = (v_offset + s.n_kv_heads * kPage * v_row + 15) / 16 * 16;
    Random random(static_cast<uint32_t>(s.head_dim + n_cached));
    std::vector<uint8_t> cache(static_cast<size_t>(n_pages * page_bytes), 0xff);
    const auto page_of = [&](int64_t p) { return (n_pages - 1 - p) * page_bytes; };
    for (int64_t t = 0; t < n_cached; ++t)
      for (int64_t h = 0; h < s.n_kv_heads; ++h) {
        const int64_t in_head = h * kPage + t % kPage;
        const Floats k = random.normal(s.head_dim, size), v = random.normal(s.head_dim);
        uint8_t* page = cache.data() + page_of(t / kPage);
        quant::format_of(s.k_type).encode(k.data(), nullptr, page + k_offset + in_head * k_row, s.head_dim);
        quant::format_of(s.v_type).encode(v.data(), nullptr, page + v_offset + in_head * v_row, s.head_dim);
      }
    const auto n_tokens = static_cast<int64_t>(s.visible.size());
    const int64_t group = s.n_heads / s.n_kv_heads, stride = s.n_heads * s.head_dim + 3;
    const Floats q = random.normal(n_tokens * stride);
    const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));

    Floats expected(static_cast<size_t>(n_tokens * s.n_heads * s.head_dim));
    for (int64_t h = 0; h < s.n_kv_heads; ++h) {
      std::vector<const void*> k_pages, v_pages;
      for (int64_t p = 0; p < n_pages; ++p) {
        k_pages.push_back(cache.data() + page_of(p) + k_offset + h * kPage * k_row);
        v_pages.push_back(cache.data() + page_of(p) + v_offset + h * kPage * v_row);
      }
      std::vector<const float*> rows;
      std::vector<float*> outs;
      std::vector<int32_t> sees;
      for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t i = h * group; i < (h + 1) * group; ++i) {
          rows.push_back(q.data() + t * stride + i * s.head_dim);
          outs.push_back(expected.data() + (t * s.n_heads + i) * s.head_dim);
          sees.push_back(s.visible[static_cast<size_t>(t)]);
        }
      Floats scratch(static_cast<size_t>(
          kernels::attention_scratch_floats(static_cast<int64_t>(rows.size()), s.head_dim, kPage)));
      ref().attention({.q = rows.data(),
                       .out = outs.data(),
                       .n_visible = sees.data(),
                       .n_q = static_cast<int64_t>(rows.size()),
                       .head_dim = s.head_dim,
                       .k_pages = k_pages.data(),
                       .v_pages = v_pages.data(),
                       .k_row_bytes = k_row,
                       .v_row_bytes = v_row,
                       .page_tokens = kPage,
                       .k_type = s.k_type,
                       .v_type = s.v_type,
                       .scale = scale,
                       .scratch = scratch.data()});
    }

    const Buffer device_cache = to_device(cache), device_q = to_device(q), visible = to_device(s.visible);
    std::vector<uint64_t> addresses;
    for (int64_t p = 0; p < n_pages; ++p)
      addresses.push_back(device_cache.span().address + static_cast<uint64_t>(page_of(p)));
    const Buffer pages = to_device(addresses);
    const int64_t parts_bytes = attention_parts_bytes(n_tokens, s.n_heads, s.head_dim, s.n_splits);
    const Buffer parts = guarded(parts_bytes / 4 + 1), y = guarded(n_tokens * stride);
    run([&](Recorder& recorder) {
      return ops().attention(recorder, {.q = {device_q.span(), stride},
                                        .y = {y.span(), stride},
                                        .visible = visible.span(),
                                        .pages = pages.span(),
                                        .k_offset = k_offset,
                                        .v_offset = v_offset,
                                        .k_type = s.k_type,
                                        .v_type = s.v_type,
                                        .n_heads = s.n_heads,
                                        .n_kv_heads = s.n_kv_heads,
                                        .head_dim = s.head_dim,
                                        .n_tokens = n_tokens,
                                        .scale = scale,
                                        .parts = parts.span(),
                                        .n_splits = s.n_splits});
    });
    EXPECT_EQ(from_device<float>(parts, static_cast<size_t>(parts_bytes / 4 + 1)).back(), kGuard);
    const Floats got = without_stride(from_device<float>(y, static_cast<size_t>(n_tokens * stride)),
                                      s.n_heads * s.head_dim, stride);
    // An error of a score (head_dim products, 2^-24 each) is one of its weight; values are of size 1.
    expect_rows_near(got, expected, s.head_dim, 2e-6 * (1 + size), "output");
  }
};

TEST_F(AttentionShader, EveryCacheFormat) {
  const char* which = std::getenv("PACKMULE_TEST_FORMATS");
  const bool few = which != nullptr && std::string_view(which) == "few";
  for (const quant::Format& format : quant::formats()) {
    if (!format.kv_cache || (few && format.type != quant::Type::kF16 && format.type != quant::Type::kQ8_0))
      continue;
    expect_attention({.k_type = format.type, .v_type = format.type, .visible = {130}});
  }
  expect_attention({.k_type = quant::Type::kQ8_0, .v_type = quant::Type::kQ4_0, .head_dim = 32});
}

TEST_F(AttentionShader, AnyNumberOfTokensAndSplits) {
  for (const int32_t seen : {1, 15, 16, 17, 63, 64, 65, 200, 517})
    for (const int64_t n_splits : {1, 3, 8}) expect_attention({.visible = {seen}, .n_splits = n_splits});
}

TEST_F(AttentionShader, ManyQueriesEachWithItsOwnEnd) {
  std::vector<int32_t> causal(37);
  std::iota(causal.begin(), causal.end(), 50);
  expect_attention({.visible = causal});
  expect_attention({.visible = causal, .n_splits = 4});
  std::iota(causal.begin(), causal.end(), 1);
  expect_attention({.n_heads = 6, .n_kv_heads = 2, .visible = causal, .n_splits = 2});
}

TEST_F(AttentionShader, HeadsOfAnySize) {
  for (const int64_t head_dim : {1, 7, 33, 256})
    expect_attention({.k_type = quant::Type::kF32,
                      .v_type = quant::Type::kBF16,
                      .head_dim = head_dim,
                      .n_heads = 3,
                      .n_kv_heads = 1});
  expect_attention({.head_dim = 256, .n_heads = 16, .n_kv_heads = 2, .visible = {300}, .n_splits = 5});
  auto recorder = Recorder::begin(device());
  EXPECT_FALSE(ops()
                   .attention(*recorder, {.n_heads = 1, .n_kv_heads = 1, .head_dim = 257, .n_tokens = 1})
                   .has_value());
}

// Scores of hundreds: without a running maximum their exponentials would overflow.
TEST_F(AttentionShader, LargeScores) {
  expect_attention({.visible = {200}, .n_splits = 2}, 60);
}

// The bytes are those of the scalar encoder on a device that divides exactly, as lavapipe does; elsewhere a
// value half way between two codes may get the other one, so the decoded values are compared.
TEST_F(AttentionShader, cache_store) {
  constexpr int64_t kPage = 64, kHeads = 3, kOffset = 256;
  for (const quant::Format& format : quant::formats()) {
    if (!format.kv_cache) continue;
    // Rows of an odd number of 16-bit units lie across words.
    for (const int64_t head_dim :
         format.block_elems == 1 ? std::vector<int64_t>{1, 33, 64} : std::vector<int64_t>{32, 96}) {
      const int64_t row_bytes = quant::row_bytes(format, head_dim);
      const int64_t page_bytes = kOffset + (kHeads * kPage * row_bytes + 15) / 16 * 16;
      const std::vector<int32_t> positions = {62, 63, 64, 65, 66};
      const auto n_tokens = static_cast<int64_t>(positions.size());
      const int64_t stride = kHeads * head_dim + 5;
      Floats x = Random(static_cast<uint32_t>(head_dim)).normal(n_tokens * stride);
      for (int64_t i = 0; i < head_dim; ++i) x[static_cast<size_t>(i)] = 0;                // a head of zeros
      for (int64_t i = 0; i < head_dim; ++i) x[static_cast<size_t>(stride + i)] *= 1e-6f;  // denormal scales
      std::vector<uint8_t> expected(static_cast<size_t>(2 * page_bytes), 0xa5);
      const Buffer cache = to_device(expected), device_x = to_device(x),
                   device_positions = to_device(positions);
      const Buffer pages = to_device(std::vector<uint64_t>{
          cache.span().address, cache.span().address + static_cast<uint64_t>(page_bytes)});
      const auto place = [&](int64_t t, int64_t h) {
        return positions[static_cast<size_t>(t)] / kPage * page_bytes + kOffset +
               (h * kPage + positions[static_cast<size_t>(t)] % kPage) * row_bytes;
      };
      for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t h = 0; h < kHeads; ++h)
          format.encode(x.data() + t * stride + h * head_dim, nullptr, expected.data() + place(t, h),
                        head_dim);
      run([&](Recorder& recorder) {
        return ops().cache_store(recorder, {.x = {device_x.span(), stride},
                                            .positions = device_positions.span(),
                                            .pages = pages.span(),
                                            .offset = kOffset,
                                            .type = format.type,
                                            .n_kv_heads = kHeads,
                                            .head_dim = head_dim,
                                            .n_tokens = n_tokens});
      });
      const auto got = from_device<uint8_t>(cache, expected.size());
      if (device()->info().type == DeviceType::kCpu) {
        for (size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(got[i], expected[i]) << format.name << ", heads of " << head_dim << ", byte " << i;
        continue;
      }
      for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t h = 0; h < kHeads; ++h) {
          Floats wanted(static_cast<size_t>(head_dim)), found(wanted);
          format.decode(expected.data() + place(t, h), wanted.data(), head_dim);
          format.decode(got.data() + place(t, h), found.data(), head_dim);
          expect_close(found, wanted, 0.01, format.block_elems == 1 ? 0.0 : 0.5);
        }
    }
  }
  auto recorder = Recorder::begin(device());
  EXPECT_FALSE(ops().cache_store(*recorder, {.type = quant::Type::kQ4_K, .head_dim = 256}).has_value());
}

}  // namespace
}  // namespace packmule::vulkan
