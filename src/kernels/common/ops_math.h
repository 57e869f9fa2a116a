// Transcendental functions and sums over the vector primitives of an instruction set.
//
// S is a folder's OpsSimd. Note that S::max and S::min return their second operand when either is NaN.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace packmule::kernels {
namespace {

/// e^x within 1 ulp or so: denormal and zero results, infinities and NaN come out as they should.
template <class S>
[[gnu::always_inline]] inline typename S::Floats exp(typename S::Floats x) {
  using Floats = typename S::Floats;
  // e^89 is beyond the largest float and e^-104 below half the smallest: nothing further out changes a
  // result.
  x = S::min(S::set(89.0f), S::max(S::set(-104.0f), x));
  // x = n ln 2 + r with |r| <= ln 2 / 2; the upper part of ln 2 has few enough bits for n times it to be
  // exact.
  const Floats n = S::round_to_integer(S::mul(x, S::set(0x1.715476p+0f)));
  Floats r = S::fnma(n, S::set(0x1.62e4p-1f), x);
  r = S::fnma(n, S::set(0x1.7f7d1cp-20f), r);
  // The series up to r^7 / 7!: the next term is below 6e-9.
  Floats sum = S::set(1.0f / 5040);
  sum = S::fma(sum, r, S::set(1.0f / 720));
  sum = S::fma(sum, r, S::set(1.0f / 120));
  sum = S::fma(sum, r, S::set(1.0f / 24));
  sum = S::fma(sum, r, S::set(1.0f / 6));
  sum = S::fma(sum, r, S::set(0.5f));
  sum = S::fma(sum, r, S::set(1.0f));
  sum = S::fma(sum, r, S::set(1.0f));
  return S::scale_by_power(sum, n);
}

template <class S>
[[gnu::always_inline]] inline typename S::Floats one_plus_exp_of_negative(typename S::Floats x) {
  return S::add(S::set(1.0f), exp<S>(S::sub(S::zero(), x)));
}

template <class S>
[[gnu::always_inline]] inline typename S::Floats sigmoid(typename S::Floats x) {
  return S::div(S::set(1.0f), one_plus_exp_of_negative<S>(x));
}

template <class S>
[[gnu::always_inline]] inline typename S::Floats silu(typename S::Floats x) {
  return S::div(x, one_plus_exp_of_negative<S>(x));
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + y) with y = e^-|x|, and ln(1 + y) = 2 artanh(s) with s = y / (2 + y) <=
/// 1/3.
template <class S>
[[gnu::always_inline]] inline typename S::Floats softplus(typename S::Floats x) {
  using Floats = typename S::Floats;
  const Floats y = exp<S>(S::min(x, S::sub(S::zero(), x)));
  const Floats s = S::div(y, S::add(S::set(2.0f), y));
  const Floats z = S::mul(s, s);
  // artanh(s) / s = 1 + z/3 + z^2/5 + ...; with z <= 1/9 the first term left out is below 2e-9.
  Floats sum = S::set(1.0f / 15);
  sum = S::fma(sum, z, S::set(1.0f / 13));
  sum = S::fma(sum, z, S::set(1.0f / 11));
  sum = S::fma(sum, z, S::set(1.0f / 9));
  sum = S::fma(sum, z, S::set(1.0f / 7));
  sum = S::fma(sum, z, S::set(1.0f / 5));
  sum = S::fma(sum, z, S::set(1.0f / 3));
  sum = S::fma(sum, z, S::set(1.0f));
  return S::fma(S::add(s, s), sum, S::max(S::zero(), x));
}

[[gnu::always_inline]] inline float sum_of_8(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <class S>
[[gnu::always_inline]] inline float sum_of_lanes(typename S::Floats v) {
  return sum_of_8(S::fold_to_8(v));
}

/// Sums of the lanes of four vectors; each by the same tree, so its place among the four does not matter.
template <class S>
[[gnu::always_inline]] inline __m128 sums_of_lanes(typename S::Floats a, typename S::Floats b,
                                                   typename S::Floats c, typename S::Floats d) {
  const __m256 ab = _mm256_hadd_ps(S::fold_to_8(a), S::fold_to_8(b));
  const __m256 cd = _mm256_hadd_ps(S::fold_to_8(c), S::fold_to_8(d));
  const __m256 abcd = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

template <class S>
inline float max_of_lanes(typename S::Floats v) {
  float lanes[S::kWidth];
  S::store(lanes, v);
  float most = lanes[0];
  for (int i = 1; i < S::kWidth; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

/// The first lane, for functions of a single number.
template <class S>
[[gnu::always_inline]] inline float exp_of_one(float x) {
  float lanes[S::kWidth];
  S::store(lanes, exp<S>(S::set(x)));
  return lanes[0];
}

/// Sum of x[i] * y[i] in double: for single numbers that may come out near zero and are all there is to a
/// row.
inline float exact_dot(const float* x, const float* y, int64_t n) {
  __m256d sum = _mm256_setzero_pd();
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    sum = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i)), _mm256_cvtps_pd(_mm_loadu_ps(y + i)), sum);
  double lanes[4];
  _mm256_storeu_pd(lanes, sum);
  for (; i < n; ++i) lanes[0] += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return static_cast<float>((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

/// A whole vector, or the first n lanes of the last one, as the argument of a loop body.
template <class S>
struct WholeVector {
  [[gnu::always_inline]] typename S::Floats load(const float* p) const { return S::load(p); }
  [[gnu::always_inline]] void store(float* p, typename S::Floats v) const { S::store(p, v); }
};
template <class S>
struct FirstLanes {
  int64_t n;
  [[gnu::always_inline]] typename S::Floats load(const float* p) const { return S::load_first(p, n); }
  [[gnu::always_inline]] void store(float* p, typename S::Floats v) const { S::store_first(p, n, v); }
};

/// body(i, part) for every vector of n elements; element by element the same operations in either part.
template <class S, class Body>
[[gnu::always_inline]] inline void for_each_vector(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + S::kWidth <= n; i += S::kWidth) body(i, WholeVector<S>{});
  if (i < n) body(i, FirstLanes<S>{n - i});
}

/// Sum of x[i] * y[i]: four running sums, for an addition takes as long as four of them to start.
template <class S>
[[gnu::always_inline]] inline float sum_of_products(const float* x, const float* y, int64_t n) {
  using Floats = typename S::Floats;
  constexpr int64_t w = S::kWidth;
  Floats sum0 = S::zero(), sum1 = S::zero(), sum2 = S::zero(), sum3 = S::zero();
  int64_t i = 0;
  for (; i + 4 * w <= n; i += 4 * w) {
    sum0 = S::fma(S::load(x + i), S::load(y + i), sum0);
    sum1 = S::fma(S::load(x + i + w), S::load(y + i + w), sum1);
    sum2 = S::fma(S::load(x + i + 2 * w), S::load(y + i + 2 * w), sum2);
    sum3 = S::fma(S::load(x + i + 3 * w), S::load(y + i + 3 * w), sum3);
  }
  for (; i + w <= n; i += w) sum0 = S::fma(S::load(x + i), S::load(y + i), sum0);
  if (i < n) sum1 = S::fma(S::load_first(x + i, n - i), S::load_first(y + i, n - i), sum1);
  return sum_of_lanes<S>(S::add(S::add(sum0, sum1), S::add(sum2, sum3)));
}

}  // namespace
}  // namespace packmule::kernels
