#include "model/expert_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/strip_layout.h"
#include "kernels/strip_rows.h"

namespace packmule::model {
namespace {

/// What a thread copies at once: large enough not to be counted, small enough that all threads have some.
constexpr int64_t kCopyBytes = int64_t{128} << 10;

class StreamedProduct final : public Step {
 public:
  StreamedProduct(const ExpertMatrices& matrices, int64_t n_experts, DeviceLayers::PieceOp product,
                  std::optional<vulkan::StreamRing>& ring, runtime::DeviceState& state, int n_threads)
      : matrices_(matrices),
        n_experts_(n_experts),
        stride_(streamed_expert_bytes(matrices)),
        product_(std::move(product)),
        ring_(ring),
        state_(state) {
    if (matrices.first.in_strips)
      rows_.resize(
          static_cast<size_t>(n_threads),
          std::vector<std::byte>(static_cast<size_t>(kernels::kStripRows * matrices.first.row_bytes)));
  }

  void run(Pass& pass) const override { pass.failure = stream(pass); }

 private:
  [[nodiscard]] Status stream(Pass& pass) const {
    const int64_t most = ring_->slot_bytes() / stride_, n_pieces = (n_experts_ + most - 1) / most;
    const int64_t per_piece = (n_experts_ + n_pieces - 1) / n_pieces;
    for (int64_t first = 0; first < n_experts_; first += per_piece) {
      const int64_t n = std::min(per_piece, n_experts_ - first);
      PACKMULE_TRY(
          state_.last,
          ring_->run(
              n * stride_, [&](std::span<std::byte> staging) { fill(pass.pool, first, n, staging.data()); },
              [&](vulkan::Recorder& recorder, const vulkan::Span& slot) {
                return product_(recorder, state_.batch, slot, first, n);
              }));
    }
    return {};
  }

  /// Experts [first, first + n) to `to`, by all threads.
  void fill(ThreadPool& pool, int64_t first, int64_t n, std::byte* to) const {
    const Matrix& m = matrices_.first;
    const int64_t bytes = m.n_rows * m.row_bytes,
                  unit = m.in_strips ? kernels::kStripRows * m.row_bytes : kCopyBytes;
    const int64_t n_units = (bytes + unit - 1) / unit;  // of an expert
    pool.run(n * n_units, [&](int64_t item, int worker) {
      const int64_t expert = item / n_units, at = item % n_units * unit;
      const std::byte* from = m.data + (first + expert) * matrices_.expert_bytes + at;
      if (m.in_strips) {
        // Staging may be memory that is only fast when it is written in one direction.
        std::vector<std::byte>& rows = rows_[static_cast<size_t>(worker)];
        kernels::rows_of_strip(m.format->type, from, m.n_cols, rows.data());
        from = rows.data();
      }
      std::memcpy(to + expert * stride_ + at, from, static_cast<size_t>(std::min(unit, bytes - at)));
    });
  }

  const ExpertMatrices& matrices_;
  int64_t n_experts_;
  int64_t stride_;
  DeviceLayers::PieceOp product_;
  std::optional<vulkan::StreamRing>& ring_;
  runtime::DeviceState& state_;
  mutable std::vector<std::vector<std::byte>> rows_;  // of a strip, for each thread
};

}  // namespace

int64_t streamed_expert_bytes(const ExpertMatrices& matrices) {
  constexpr int64_t kWordBytes = 4;
  return (matrices.first.n_rows * matrices.first.row_bytes + kWordBytes - 1) / kWordBytes * kWordBytes;
}

std::unique_ptr<Step> make_streamed_product(const ExpertMatrices& matrices, int64_t n_experts,
                                            DeviceLayers::PieceOp product,
                                            std::optional<vulkan::StreamRing>& ring,
                                            runtime::DeviceState& state, int n_threads) {
  return std::make_unique<StreamedProduct>(matrices, n_experts, std::move(product), ring, state, n_threads);
}

}  // namespace packmule::model
