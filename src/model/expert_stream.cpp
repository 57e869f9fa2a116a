#include "model/expert_stream.h"

#include <algorithm>
#include <utility>

#include "kernels/strip_rows.h"

namespace packmule::model {
namespace {

class StreamedProduct final : public Step {
 public:
  StreamedProduct(const ExpertMatrices& matrices, int64_t n_experts, DeviceLayers::PieceOp product,
                  std::optional<vulkan::StreamRing>& ring, runtime::DeviceState& state, int n_threads)
      : matrices_(matrices),
        n_experts_(n_experts),
        stride_(streamed_expert_bytes(matrices)),
        product_(std::move(product)),
        ring_(ring),
        state_(state),
        copier_(matrices.first.format->type, matrices.first.n_rows, matrices.first.n_cols,
                matrices.first.in_strips, n_threads) {}

  void run(Pass& pass) const override { pass.failure = stream(pass); }

 private:
  [[nodiscard]] Status stream(Pass& pass) const {
    const int64_t most = ring_->slot_bytes() / stride_, n_pieces = (n_experts_ + most - 1) / most;
    const int64_t per_piece = (n_experts_ + n_pieces - 1) / n_pieces;
    for (int64_t first = 0; first < n_experts_; first += per_piece) {
      const int64_t n = std::min(per_piece, n_experts_ - first);
      PACKMULE_TRY(state_.last, ring_->run(
                                    n * stride_,
                                    [&](std::span<std::byte> staging) {
                                      copier_.copy(pass.pool,
                                                   matrices_.first.data + first * matrices_.expert_bytes,
                                                   matrices_.expert_bytes, n, staging.data(), stride_);
                                    },
                                    [&](vulkan::Recorder& recorder, const vulkan::Span& slot) {
                                      return product_(recorder, state_.batch, slot, first, n);
                                    }));
    }
    return {};
  }

  const ExpertMatrices& matrices_;
  int64_t n_experts_;
  int64_t stride_;
  DeviceLayers::PieceOp product_;
  std::optional<vulkan::StreamRing>& ring_;
  runtime::DeviceState& state_;
  kernels::RowCopier copier_;
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
