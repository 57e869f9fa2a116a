// The gated delta rule: both forms of every variant against the definition in double.
#include "kernels/ops_for_test.h"

namespace packmule::kernels {
namespace {

using testing_support::Doubles;
using testing_support::expect_close;
using testing_support::expect_same_bits;
using testing_support::Floats;
using testing_support::Random;

enum class Decay { kWeak, kStrong, kMixed };
constexpr Decay kDecays[] = {Decay::kWeak, Decay::kStrong, Decay::kMixed};

struct Result {
  Floats out, state;
};

/// Inputs as the model has them: k and q of length 1, q scaled by 1/sqrt(dk), beta in (0, 1). Tokens lie
/// apart as in rows that hold other heads too; what lies between them is NaN.
class Problem {
 public:
  Problem(int64_t dk, int64_t dv, int64_t n_tokens, Decay decay, float beta_scale = 1.0f)
      : dk_(dk), dv_(dv), n_tokens_(n_tokens), qk_stride_(dk + 5), v_stride_(dv + 3), out_stride_(dv + 2) {
    Random random(static_cast<uint32_t>(dk * 1009 + dv * 31 + n_tokens + static_cast<int>(decay)));
    q_ = unit_rows(random, 1 / std::sqrt(static_cast<double>(dk)));
    k_ = unit_rows(random, 1.0);
    v_ = random.normal(n_tokens * v_stride_);
    state_ = random.normal(dk * dv, 0.3f);
    g_ = random.uniform(n_tokens * kGateStride, 0, 1);
    for (float& g : g_) g = log_decay(g, decay);
    beta_ = random.uniform(n_tokens * kGateStride, 0.001f * beta_scale, 0.999f * beta_scale);
  }

  /// The call, cut into pieces of at most `piece` tokens.
  [[nodiscard]] Result run(DeltaFn delta, int64_t piece) const {
    Result result{Floats(static_cast<size_t>(n_tokens_ * out_stride_), kUntouched), state_};
    Floats scratch(static_cast<size_t>(delta_scratch_floats(dk_, dv_)), std::nanf(""));
    for (int64_t first = 0; first < n_tokens_; first += piece)
      delta({.state = result.state.data(),
             .q = q_.data() + first * qk_stride_,
             .k = k_.data() + first * qk_stride_,
             .qk_stride = qk_stride_,
             .v = v_.data() + first * v_stride_,
             .v_stride = v_stride_,
             .g = g_.data() + first * kGateStride,
             .beta = beta_.data() + first * kGateStride,
             .gate_stride = kGateStride,
             .out = result.out.data() + first * out_stride_,
             .out_stride = out_stride_,
             .dk = dk_,
             .dv = dv_,
             .n_tokens = std::min(piece, n_tokens_ - first),
             .scratch = scratch.data()});
    for (int64_t t = 0; t < n_tokens_; ++t)
      for (int64_t j = dv_; j < out_stride_; ++j) EXPECT_EQ(result.out[t * out_stride_ + j], kUntouched);
    return result;
  }
  [[nodiscard]] Result run(DeltaFn delta) const { return run(delta, std::max<int64_t>(1, n_tokens_)); }

  /// Relative L2 error of every output row and of the state against the definition in double. In a row of few
  /// elements all of them may happen to be sums that cancel: there the error is held against the inputs,
  /// which are of size 1.
  void expect_right(const Result& result, double tolerance) const {
    Doubles s(state_.begin(), state_.end());
    for (int64_t t = 0; t < n_tokens_; ++t) {
      const float* k = &k_[t * qk_stride_];
      const float* q = &q_[t * qk_stride_];
      for (double& value : s) value *= std::exp(static_cast<double>(g_[t * kGateStride]));
      double error = 0, size = 0;
      for (int64_t j = 0; j < dv_; ++j) {
        double held = 0, out = 0;
        for (int64_t i = 0; i < dk_; ++i) held += s[i * dv_ + j] * k[i];
        const double u = beta_[t * kGateStride] * (v_[t * v_stride_ + j] - held);
        for (int64_t i = 0; i < dk_; ++i) s[i * dv_ + j] += k[i] * u;
        for (int64_t i = 0; i < dk_; ++i) out += s[i * dv_ + j] * q[i];
        error += std::pow(result.out[t * out_stride_ + j] - out, 2);
        size += out * out;
      }
      ASSERT_LE(std::sqrt(error), tolerance * std::max(std::sqrt(size), least_size())) << "token " << t;
    }
    double error = 0, size = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      error += std::pow(result.state[i] - s[i], 2);
      size += s[i] * s[i];
    }
    ASSERT_LE(std::sqrt(error), tolerance * std::max(std::sqrt(size), least_size())) << "state";
  }

 private:
  static constexpr int64_t kGateStride = 3;
  static constexpr float kUntouched = 12345.0f;

  [[nodiscard]] double least_size() const { return dv_ < 16 ? 1.0 : 0.0; }

  static float log_decay(float uniform, Decay decay) {
    switch (decay) {
      case Decay::kWeak:
        return -0.01f * uniform;
      case Decay::kStrong:
        return -8.0f * uniform;
      case Decay::kMixed:
        break;
    }
    return -8.0f *
           std::pow(uniform, 6.0f);  // mostly weak, now and then a token that forgets nearly everything
  }

  Floats unit_rows(Random& random, double length) const {
    Floats rows(static_cast<size_t>(n_tokens_ * qk_stride_), std::nanf(""));
    for (int64_t t = 0; t < n_tokens_; ++t) {
      const Floats row = random.normal(dk_);
      double squares = 1e-6;
      for (float value : row) squares += static_cast<double>(value) * value;
      for (int64_t i = 0; i < dk_; ++i)
        rows[t * qk_stride_ + i] = static_cast<float>(row[i] * length / std::sqrt(squares));
    }
    return rows;
  }

  int64_t dk_, dv_, n_tokens_, qk_stride_, v_stride_, out_stride_;
  Floats q_, k_, v_, g_, beta_, state_;
};

class Delta : public testing_support::IsaTest {
 protected:
  // Float sums of dk products and of up to 64 earlier tokens, most of which cancel. ref rounds the state once
  // a token (recurrent) or a chunk.
  static double tolerance() { return is_ref() ? 1e-6 : 2e-6; }

  static void expect_form(DeltaFn Kernels::* form) {
    for (Decay decay : kDecays)
      for (const auto& [dk, dv] : std::vector<std::pair<int64_t, int64_t>>{
               {1, 1}, {3, 2}, {7, 5}, {8, 8}, {16, 24}, {17, 33}, {64, 100}, {128, 128}})
        for (int64_t n_tokens : {0, 1, 2, 5, 63, 64, 65, 200}) {
          SCOPED_TRACE(::testing::Message() << "decay " << static_cast<int>(decay) << ", dk " << dk << ", dv "
                                            << dv << ", " << n_tokens << " tokens");
          const Problem problem(dk, dv, n_tokens, decay);
          const Result result = problem.run(kernels().*form);
          problem.expect_right(result, tolerance());
        }
    const Problem wide(256, 256, 70, Decay::kMixed);
    wide.expect_right(wide.run(kernels().*form), tolerance());
  }
};
PACKMULE_FOR_EACH_ISA(Delta);

TEST_P(Delta, delta_recurrent) {
  expect_form(&Kernels::delta_recurrent);
}
TEST_P(Delta, delta_chunked) {
  expect_form(&Kernels::delta_chunked);
}

TEST_P(Delta, ForgettingWithoutWriting) {
  // All that is left is e^(sum of g), down to e^-70. In chunks that is one exponential of a sum which a float
  // holds to 2^-18 only.
  const Problem problem(64, 64, 17, Decay::kStrong, 0.0f);
  problem.expect_right(problem.run(kernels().delta_recurrent), tolerance());
  problem.expect_right(problem.run(kernels().delta_chunked), 6e-7);
}

TEST_P(Delta, RecurrentInAnyPiecesGivesTheSameBits) {
  const Problem problem(48, 41, 23, Decay::kMixed);
  const Result whole = problem.run(kernels().delta_recurrent);
  for (int64_t piece : {1, 2, 7, 22}) {
    const Result pieces = problem.run(kernels().delta_recurrent, piece);
    expect_same_bits(pieces.out, whole.out);
    expect_same_bits(pieces.state, whole.state);
  }
}

TEST_P(Delta, ChunkedCutAtChunksGivesTheSameBits) {
  const Problem problem(48, 41, 3 * kDeltaChunk + 9, Decay::kMixed);
  const Result whole = problem.run(kernels().delta_chunked);
  const Result pieces = problem.run(kernels().delta_chunked, kDeltaChunk);
  expect_same_bits(pieces.out, whole.out);
  expect_same_bits(pieces.state, whole.state);
}

}  // namespace
}  // namespace packmule::kernels
