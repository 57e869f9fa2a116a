// GET /metrics: what the server does, in the text form that Prometheus reads.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>

#include "api/backend.h"

namespace packmule::api {

/// How long requests waited for the first token of their answer.
class FirstTokenTimes {
 public:
  /// Upper bounds of the buckets in seconds.
  static constexpr std::array<double, 12> kBounds = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};

  /// From any thread.
  void add(double seconds);
  /// As a histogram under this name.
  [[nodiscard]] std::string text(const std::string& name) const;

 private:
  mutable std::mutex mutex_;
  std::array<int64_t, kBounds.size() + 1> counts_{};  // the last: longer than every bound
  double sum_ = 0;
};

/// Names that llama-server has too begin with "llamacpp:", so that dashboards for it work, others with
/// "packmule:". `n_waiting` requests wait for their turn outside of the engine, `n_timed_out` have ended
/// because their time was up.
[[nodiscard]] std::string metrics_text(const Backend& backend, const FirstTokenTimes& first_token,
                                       int64_t n_waiting, int64_t n_timed_out);

}  // namespace packmule::api
