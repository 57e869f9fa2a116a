#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "sampling/portable_exp.h"

namespace packmule::sampling {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
// Candidates gathered beyond 2 k before the worse ones are thrown out: enough to make that rare for a small
// k.
constexpr size_t kTopKSlack = 256;

/// A total order, so that every selection has one result whatever the library's algorithm.
bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

uint32_t random_seed() {
  std::random_device device;
  uint32_t seed = kRandomSeed;
  while (seed == kRandomSeed) seed = device();
  return seed;
}

}  // namespace

Sampler::Sampler(Params params, int64_t n_vocab, std::vector<int32_t> never)
    : params_(std::move(params)),
      seed_(params_.seed == kRandomSeed ? random_seed() : params_.seed),
      random_(seed_),
      never_(std::move(never)),
      counts_(static_cast<size_t>(n_vocab)),
      work_(static_cast<size_t>(n_vocab)) {
  const auto outside = [&](int32_t id) { return id < 0 || id >= n_vocab; };
  std::erase_if(never_, outside);
  std::erase_if(params_.logit_bias, [&](const auto& bias) { return outside(bias.first); });
  const auto n = static_cast<size_t>(n_vocab);
  const size_t k = params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : n;
  candidates_.reserve(k < n ? std::min(n, 2 * k + kTopKSlack) : n);
}

void Sampler::accept(int32_t token) {
  const auto count = [&](int32_t id, int32_t change) {
    if (id >= 0 && static_cast<size_t>(id) < counts_.size()) counts_[static_cast<size_t>(id)] += change;
  };
  if (params_.repeat_last_n == 0) return;
  count(token, 1);
  if (params_.repeat_last_n < 0) return;
  if (window_.size() < static_cast<size_t>(params_.repeat_last_n)) {
    window_.push_back(token);
    return;
  }
  count(window_[window_next_], -1);
  window_[window_next_] = token;
  window_next_ = (window_next_ + 1) % window_.size();
}

int32_t Sampler::sample(std::span<const float> logits, TokenMask allowed) {
  apply_bias_and_penalties(logits);
  forbid(allowed, kNever);
  if (params_.temperature <= 0.0f) return choose_greedy(allowed);

  const size_t k = params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : work_.size();
  if (k < work_.size())
    keep_top_k(k);
  else
    keep_all();
  if (candidates_.empty()) return choose_greedy(allowed);
  if (params_.top_p < 1.0f || params_.min_p > 0.0f) {
    const double total = weigh(1.0);
    keep_top_p(total);
    keep_min_p();
  }
  return draw(weigh(params_.temperature));
}

void Sampler::apply_bias_and_penalties(std::span<const float> logits) {
  const size_t n = std::min(logits.size(), work_.size());
  std::copy_n(logits.begin(), n, work_.begin());
  std::fill(work_.begin() + static_cast<ptrdiff_t>(n), work_.end(), kNever);
  for (const auto& [id, bias] : params_.logit_bias) work_[static_cast<size_t>(id)] += bias;

  const bool penalties =
      params_.repeat_penalty != 1.0f || params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f;
  if (penalties && params_.repeat_last_n != 0) {
    for (size_t id = 0; id < work_.size(); ++id) {
      if (counts_[id] == 0) continue;
      float logit = work_[id];
      logit = logit > 0.0f ? logit / params_.repeat_penalty : logit * params_.repeat_penalty;
      work_[id] =
          logit - static_cast<float>(counts_[id]) * params_.frequency_penalty - params_.presence_penalty;
    }
  }
}

/// Gives the tokens that must not be drawn this value.
void Sampler::forbid(TokenMask allowed, float value) {
  for (const int32_t id : never_) work_[static_cast<size_t>(id)] = value;
  if (allowed.empty()) return;
  for (size_t begin = 0; begin < work_.size(); begin += 64) {
    const uint64_t word = begin / 64 < allowed.size() ? allowed[begin / 64] : 0;
    if (word == ~uint64_t{0}) continue;
    const size_t end = std::min(begin + 64, work_.size());
    for (size_t id = begin; id < end; ++id)
      if ((word >> (id - begin) & 1) == 0) work_[id] = value;
  }
}

int32_t Sampler::choose_greedy(TokenMask allowed) {
  candidates_.clear();
  int32_t best = -1;
  float best_logit = kNever;
  for (size_t id = 0; id < work_.size(); ++id) {
    if (!(work_[id] > best_logit)) continue;  // a NaN is not greater than anything
    best = static_cast<int32_t>(id);
    best_logit = work_[id];
  }
  if (best < 0) {
    // All that may be drawn is impossible. Any of it will do.
    forbid(allowed, 0.0f);
    const auto free = std::find_if(work_.begin(), work_.end(), [](float x) { return x != 0.0f; });
    if (free == work_.end()) return -1;
    best = static_cast<int32_t>(free - work_.begin());
  }
  candidates_.push_back({best, best_logit, 1.0f});
  n_sorted_ = 1;
  return best;
}

void Sampler::keep_top_k(size_t k) {
  candidates_.clear();
  const size_t most = std::min(work_.size(), 2 * k + kTopKSlack);
  const auto discard_below_k = [&] {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k - 1),
                     candidates_.end(), better);
    candidates_.resize(k);
  };
  // Ids ascend, so a later logit must be greater, not equal, to get among the best k.
  float threshold = kNever;
  for (size_t id = 0; id < work_.size(); ++id) {
    if (!(work_[id] > threshold)) continue;
    const float logit = std::min(work_[id], std::numeric_limits<float>::max());
    candidates_.push_back({static_cast<int32_t>(id), logit, 0.0f});
    if (candidates_.size() < most) continue;
    discard_below_k();
    threshold = candidates_.back().logit;
  }
  if (candidates_.size() > k) discard_below_k();
  std::sort(candidates_.begin(), candidates_.end(), better);
  n_sorted_ = candidates_.size();
}

void Sampler::keep_all() {
  candidates_.clear();
  for (size_t id = 0; id < work_.size(); ++id)
    if (work_[id] > kNever)
      candidates_.push_back(
          {static_cast<int32_t>(id), std::min(work_[id], std::numeric_limits<float>::max()), 0.0f});
  n_sorted_ = 0;
}

/// Brings at least the first n candidates into order, the rest stays behind them in any order.
void Sampler::sort_first(size_t n) {
  n = std::min(n, candidates_.size());
  if (n <= n_sorted_) return;
  const auto begin = candidates_.begin() + static_cast<ptrdiff_t>(n_sorted_);
  const auto end = candidates_.begin() + static_cast<ptrdiff_t>(n);
  if (n < candidates_.size()) std::nth_element(begin, end, candidates_.end(), better);
  std::sort(begin, end, better);
  n_sorted_ = n;
}

/// Sets `probability` to exp((logit - largest) / temperature), not yet normalized, and returns the sum.
double Sampler::weigh(double temperature) {
  float largest = kNever;
  for (const Candidate& candidate : candidates_) largest = std::max(largest, candidate.logit);
  double total = 0.0;
  for (Candidate& candidate : candidates_) {
    const double distance =
        (static_cast<double>(candidate.logit) - static_cast<double>(largest)) / temperature;
    candidate.probability = static_cast<float>(portable_exp(distance));
    total += static_cast<double>(candidate.probability);
  }
  return total;
}

/// Keeps the fewest candidates whose probabilities sum to top_p, at least one.
void Sampler::keep_top_p(double total) {
  if (params_.top_p >= 1.0f) return;
  double sum = 0.0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i == n_sorted_) sort_first(std::max(kSortedCandidates, 4 * n_sorted_));
    sum += static_cast<double>(candidates_[i].probability);
    // In single precision, as top_p is: probabilities of 0.5 and 0.3 do reach a top_p of 0.8.
    if (static_cast<float>(sum / total) < params_.top_p) continue;
    candidates_.resize(i + 1);
    n_sorted_ = i + 1;
    return;
  }
}

/// Keeps the candidates that are at least min_p times as probable as the best.
void Sampler::keep_min_p() {
  if (!(params_.min_p > 0.0f)) return;
  const float least = std::min(params_.min_p, 1.0f);  // the best has 1
  if (n_sorted_ < candidates_.size()) {
    // Stable, so the order stays the ascending one of ids and with it the order of the sums.
    std::erase_if(candidates_, [least](const Candidate& c) { return c.probability < least; });
    return;
  }
  while (candidates_.size() > 1 && candidates_.back().probability < least) candidates_.pop_back();
  n_sorted_ = candidates_.size();
}

int32_t Sampler::draw(double total) {
  sort_first(kSortedCandidates);
  const double target = random_.next_unit() * total;
  const auto scale = 1.0 / total;
  size_t chosen = 0;
  double sum = 0.0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i == n_sorted_) sort_first(4 * n_sorted_);
    if (candidates_[i].probability == 0.0f) break;  // nor are those behind it
    chosen = i;
    sum += static_cast<double>(candidates_[i].probability);
    if (sum > target) break;
  }
  for (Candidate& candidate : candidates_)
    candidate.probability = static_cast<float>(static_cast<double>(candidate.probability) * scale);
  return candidates_[chosen].id;
}

}  // namespace packmule::sampling
