// Attention over every cache format: ref against the softmax written out in double, the others against ref.
#include "kernels/ops_for_test.h"
#include "quant/format.h"

namespace packmule::kernels {
namespace {

using testing_support::Doubles;
using testing_support::expect_close;
using testing_support::expect_same_bits;
using testing_support::Floats;
using testing_support::Random;

struct Shape {
  int64_t head_dim, page_tokens;
  std::vector<int32_t> n_visible;  // per query
  quant::Type k_type = quant::Type::kF32, v_type = quant::Type::kF32;
  float q_size = 1.0f;  // of the queries: how sharp the softmax is
};

/// One sequence's cache and queries. Rows lie apart as in a page of two KV heads, and what the queries do not
/// see (the rest of the last page, the other head) is NaN.
class Problem {
 public:
  explicit Problem(Shape shape) : shape_(std::move(shape)) {
    Random random(static_cast<uint32_t>(shape_.head_dim * 31 + shape_.page_tokens));
    n_tokens_ = *std::max_element(shape_.n_visible.begin(), shape_.n_visible.end());
    for (size_t i = 0; i < shape_.n_visible.size(); ++i)
      q_.push_back(random.normal(shape_.head_dim, shape_.q_size));
    fill(shape_.k_type, random, k_pages_, k_, k_row_bytes_);
    fill(shape_.v_type, random, v_pages_, v_, v_row_bytes_);
  }

  /// out of queries [begin, end) in one call.
  [[nodiscard]] Floats run(const Kernels& kernels, size_t begin, size_t end) const {
    const auto n_q = static_cast<int64_t>(end - begin);
    Floats out(static_cast<size_t>(n_q * shape_.head_dim), 7.0f);
    Floats scratch(static_cast<size_t>(attention_scratch_floats(n_q, shape_.head_dim, shape_.page_tokens)),
                   -1e30f);
    std::vector<const float*> q;
    std::vector<float*> to;
    std::vector<const void*> k_pages, v_pages;
    for (size_t i = begin; i < end; ++i) {
      q.push_back(q_[i].data());
      to.push_back(out.data() + (i - begin) * shape_.head_dim);
    }
    for (const auto& page : k_pages_) k_pages.push_back(page.data());
    for (const auto& page : v_pages_) v_pages.push_back(page.data());
    kernels.attention({.q = q.data(),
                       .out = to.data(),
                       .n_visible = shape_.n_visible.data() + begin,
                       .n_q = n_q,
                       .head_dim = shape_.head_dim,
                       .k_pages = k_pages.data(),
                       .v_pages = v_pages.data(),
                       .k_row_bytes = k_row_bytes_,
                       .v_row_bytes = v_row_bytes_,
                       .page_tokens = shape_.page_tokens,
                       .k_type = shape_.k_type,
                       .v_type = shape_.v_type,
                       .scale = scale(),
                       .scratch = scratch.data()});
    return out;
  }
  [[nodiscard]] Floats run(const Kernels& kernels) const { return run(kernels, 0, q_.size()); }

  [[nodiscard]] float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  /// softmax(scale * q K^T) V, in two passes over all scores. `largest_score` in magnitude is left behind.
  [[nodiscard]] Doubles formula(double* largest_score) const {
    Doubles out;
    *largest_score = 0;
    for (size_t i = 0; i < q_.size(); ++i) {
      Doubles score;
      for (int32_t t = 0; t < shape_.n_visible[i]; ++t) {
        double sum = 0;
        for (int64_t d = 0; d < shape_.head_dim; ++d) sum += static_cast<double>(q_[i][d]) * k_[t][d];
        score.push_back(sum * scale());
        *largest_score = std::max(*largest_score, std::abs(score.back()));
      }
      const double largest = *std::max_element(score.begin(), score.end());
      double total = 0;
      for (double& s : score) total += s = std::exp(s - largest);
      for (int64_t d = 0; d < shape_.head_dim; ++d) {
        double sum = 0;
        for (size_t t = 0; t < score.size(); ++t) sum += score[t] * v_[t][d];
        out.push_back(sum / total);
      }
    }
    return out;
  }

 private:
  void fill(quant::Type type, Random& random, std::vector<std::vector<std::byte>>& pages,
            std::vector<Floats>& decoded, int64_t& row_bytes) {
    const quant::Format& format = quant::format_of(type);
    const int64_t used_bytes = quant::row_bytes(format, shape_.head_dim);
    row_bytes = 2 * used_bytes;
    for (int64_t first = 0; first < n_tokens_; first += shape_.page_tokens) {
      // The last row ends the page: no bytes behind it for a kernel to read.
      auto& page = pages.emplace_back((shape_.page_tokens - 1) * row_bytes + used_bytes, std::byte{0xff});
      for (int64_t t = first; t < std::min(n_tokens_, first + shape_.page_tokens); ++t) {
        std::byte* row = page.data() + (t - first) * row_bytes;
        const Floats values = random.normal(shape_.head_dim);
        format.encode(values.data(), nullptr, row, shape_.head_dim);
        decoded.emplace_back(static_cast<size_t>(shape_.head_dim));
        format.decode(row, decoded.back().data(), shape_.head_dim);
      }
    }
  }

  Shape shape_;
  int64_t n_tokens_ = 0;
  std::vector<Floats> q_, k_, v_;  // k_ and v_ as the cache's format holds them
  std::vector<std::vector<std::byte>> k_pages_, v_pages_;
  int64_t k_row_bytes_ = 0, v_row_bytes_ = 0;
};

class AttentionTest : public testing_support::IsaTest {
 protected:
  static void expect_attention(const Shape& shape) {
    SCOPED_TRACE(::testing::Message()
                 << "head_dim " << shape.head_dim << ", page of " << shape.page_tokens << ", "
                 << shape.n_visible.size() << " queries, K " << quant::format_of(shape.k_type).name << ", V "
                 << quant::format_of(shape.v_type).name);
    const Problem problem(shape);
    double largest_score = 0;
    const Doubles formula = problem.formula(&largest_score);
    const Floats out = problem.run(kernels());
    // The output is a mean of rows of V, whose elements stay below 6; each weight is off by the rounding of
    // its score (a float dot product, 2^-24 of its size a few times) and of the exponential.
    if (is_ref())
      expect_close(out, formula, 0x1.01p-24, 1e-12);
    else
      expect_close(out, problem.run(ref()), 0, 6 * (4e-7 + 4 * 0x1p-24 * largest_score));
    // Each query alone gets the bits it gets in company.
    for (size_t i = 0; i < shape.n_visible.size(); ++i)
      expect_same_bits(problem.run(kernels(), i, i + 1),
                       std::span(out).subspan(i * shape.head_dim, static_cast<size_t>(shape.head_dim)));
  }
};
PACKMULE_FOR_EACH_ISA(AttentionTest);

TEST_P(AttentionTest, attention) {
  // Any head size in F32, around the vector widths and blocks of four vectors.
  for (int64_t head_dim : {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 128, 160, 256})
    for (int64_t page_tokens : {1, 5, 16, 64}) {
      expect_attention({head_dim, page_tokens, {1}});
      expect_attention({head_dim, page_tokens, {70}});
      expect_attention({head_dim, page_tokens, {64, 64, 64, 65, 65, 65}});
    }
}

TEST_P(AttentionTest, EveryCacheFormat) {
  int n_formats = 0;
  for (const quant::Format& format : quant::formats()) {
    if (!format.kv_cache || format.encode == nullptr) continue;  // a cache is written by the encoder
    ++n_formats;
    for (int64_t head_dim : {64, 96, 128, 160, 256}) {
      if (head_dim % format.block_elems != 0) continue;
      expect_attention({head_dim, 16, {1, 16, 17, 40, 40}, format.type, format.type});
      expect_attention({head_dim, 64, {65, 65, 65, 65, 65, 65, 65, 65}, format.type, quant::Type::kF16});
      expect_attention({head_dim, 64, {100}, quant::Type::kBF16, format.type});
    }
  }
  EXPECT_GE(n_formats, 9);  // those that -ctk names
}

TEST_P(AttentionTest, CausalTails) {
  // Token by token over a page's edge, heads of a token together and tokens of a head together.
  std::vector<int32_t> by_token, by_head, falling;
  for (int32_t t = 10; t <= 40; ++t)
    for (int head = 0; head < 3; ++head) by_token.push_back(t);
  for (int head = 0; head < 2; ++head)
    for (int32_t t = 10; t <= 40; ++t) by_head.push_back(t);
  for (int32_t t = 50; t >= 1; t -= 7) falling.push_back(t);
  for (const auto& n_visible : {by_token, by_head, falling}) {
    expect_attention({64, 16, n_visible, quant::Type::kF16, quant::Type::kF16});
    expect_attention({40, 16, n_visible});
  }
}

TEST_P(AttentionTest, SharpSoftmax) {
  // Scores far beyond what e^x can hold, positive and negative, so that maxima replace each other.
  for (float q_size : {30.0f, 300.0f, 3000.0f}) {
    Shape shape{64, 16, {1, 15, 33, 33, 100}};
    shape.q_size = q_size;
    expect_attention(shape);
  }
}

TEST_P(AttentionTest, NoQueries) {
  kernels().attention({.n_q = 0, .head_dim = 64, .page_tokens = 16});
}

TEST_P(AttentionTest, LongContext) {
  // 262,144 tokens. The pages come round again after a prime number of them; the last round is not whole.
  constexpr int64_t kHeadDim = 32, kPageTokens = 64, kPages = 4096, kDifferent = 37;
  Random random(77);
  const Floats q = random.normal(kHeadDim);
  const Floats k = random.normal(kDifferent * kPageTokens * kHeadDim);
  const Floats v = random.normal(kDifferent * kPageTokens * kHeadDim);
  constexpr float kScale = 0.5f;
  std::vector<const void*> k_pages, v_pages;
  Doubles formula(kHeadDim, 0.0);
  double total = 0;
  for (int64_t page = 0; page < kPages; ++page) {
    const int64_t first = page % kDifferent * kPageTokens;
    k_pages.push_back(&k[first * kHeadDim]);
    v_pages.push_back(&v[first * kHeadDim]);
  }
  for (int64_t t = 0; t < kDifferent * kPageTokens; ++t) {
    const int64_t page = t / kPageTokens;
    const auto rounds = static_cast<double>(kPages / kDifferent + (page < kPages % kDifferent ? 1 : 0));
    double score = 0;
    for (int64_t d = 0; d < kHeadDim; ++d) score += static_cast<double>(q[d]) * k[t * kHeadDim + d];
    const double p = rounds * std::exp(kScale * score);
    total += p;
    for (int64_t d = 0; d < kHeadDim; ++d) formula[d] += p * v[t * kHeadDim + d];
  }
  for (double& value : formula) value /= total;

  const float* q_row = q.data();
  Floats out(kHeadDim);
  float* out_row = out.data();
  const int32_t n_visible = kPages * kPageTokens;
  Floats scratch(static_cast<size_t>(attention_scratch_floats(1, kHeadDim, kPageTokens)));
  kernels().attention({.q = &q_row,
                       .out = &out_row,
                       .n_visible = &n_visible,
                       .n_q = 1,
                       .head_dim = kHeadDim,
                       .k_pages = k_pages.data(),
                       .v_pages = v_pages.data(),
                       .k_row_bytes = kHeadDim * sizeof(float),
                       .v_row_bytes = kHeadDim * sizeof(float),
                       .page_tokens = kPageTokens,
                       .scale = kScale,
                       .scratch = scratch.data()});
  // The mean is near zero, of rows near 1: absolute. Float sums of 4096 pages lose a few times the root of
  // 4096 units, 2^-24 of what they have come to.
  expect_close(out, formula, 0, is_ref() ? 1e-7 : 3e-6);
}

}  // namespace
}  // namespace packmule::kernels
