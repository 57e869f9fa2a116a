// Choosing the experts: the k largest of n logits and their softmax.
#pragma once

#include "kernels/common/ops_math.h"

namespace packmule::kernels {
namespace {

// A NaN ranks below every number, so that the chosen indices are always distinct and in range.
inline bool ranks_before(float a, float b) {
  return a > b || (b != b && a == a);
}

/// The best so far, best first; weight holds their logits until the end. An equal logit stays behind the
/// earlier one.
struct TopK {
  int64_t k;
  int32_t* index;
  float* weight;
  int64_t count = 0;

  void offer(float logit, int64_t i) {
    int64_t at = count;
    while (at > 0 && ranks_before(logit, weight[at - 1])) --at;
    if (at >= k) return;
    if (count < k) ++count;
    for (int64_t j = count - 1; j > at; --j) {
      weight[j] = weight[j - 1];
      index[j] = index[j - 1];
    }
    weight[at] = logit;
    index[at] = static_cast<int32_t>(i);
  }
};

template <class S>
void router_top_k(const float* logits, int64_t n, int64_t k, int32_t* index, float* weight) {
  using Floats = typename S::Floats;
  TopK best{k, index, weight};
  int64_t i = 0;
  for (; i < n && i < k; ++i) best.offer(logits[i], i);
  if (best.count == 0) return;
  // From here on most logits are too small to matter: they are passed over a vector at a time. A NaN among
  // the best keeps any_above false, hence the second condition.
  for (; i + S::kWidth <= n; i += S::kWidth) {
    const float worst = weight[k - 1];
    if (worst == worst && !S::any_above(S::load(logits + i), S::set(worst))) continue;
    for (int64_t j = i; j < i + S::kWidth; ++j) best.offer(logits[j], j);
  }
  for (; i < n; ++i) best.offer(logits[i], i);

  // The softmax's own denominator cancels when the chosen ones are renormalised. A NaN anywhere makes every
  // probability NaN, chosen or not: a broken model must be seen.
  const Floats largest = S::set(weight[0]);
  for_each_vector<S>(best.count, [=](int64_t j, auto part) {
    part.store(weight + j, exp<S>(S::sub(part.load(weight + j), largest)));
  });
  double sum = 0;
  for (int64_t j = 0; j < best.count; ++j) sum += static_cast<double>(weight[j]);
  for (int64_t j = 0; j < n; ++j)
    if (logits[j] != logits[j]) sum = static_cast<double>(logits[j]);
  for (int64_t j = 0; j < best.count; ++j)
    weight[j] = static_cast<float>(static_cast<double>(weight[j]) / sum);
}

}  // namespace
}  // namespace packmule::kernels
