#include "model/residency.h"

#include <algorithm>
#include <cstring>

namespace packmule::model {
namespace {

constexpr int64_t kPieceBytes = 8 << 20;
constexpr int64_t kAlignBytes = 64;
/// What is left to caches, activations and the rest of the machine when kAuto decides.
constexpr int64_t kReserveBytes = int64_t{2} << 30;

constexpr int64_t aligned(int64_t n_bytes) {
  return (n_bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
}

}  // namespace

std::string_view load_mode_name(LoadMode mode) {
  switch (mode) {
    case LoadMode::kAuto:
      return "auto";
    case LoadMode::kMmap:
      return "mmap";
    case LoadMode::kCopy:
      return "copy";
    case LoadMode::kRepack:
      return "repack";
  }
  return "?";
}

Result<Residency> Residency::create(const gguf::File& file, LoadMode mode, bool can_repack,
                                    int64_t elsewhere_bytes, int64_t available_bytes) {
  int64_t needed = 0;
  for (const gguf::TensorInfo& tensor : file.tensors())
    needed += aligned(static_cast<int64_t>(tensor.size_bytes));
  needed -= elsewhere_bytes;
  Residency residency;
  residency.mode_ = mode;
  if (mode == LoadMode::kAuto)
    residency.mode_ =
        can_repack && needed <= available_bytes - kReserveBytes ? LoadMode::kRepack : LoadMode::kMmap;
  if (residency.mode_ == LoadMode::kRepack && !can_repack) residency.mode_ = LoadMode::kCopy;
  if (residency.mode_ == LoadMode::kMmap) return residency;
  if (needed > available_bytes)
    return fail(ErrorKind::kOutOfMemory,
                "{}: --load-mode {} needs {:.1f} GB of memory for the weights, {:.1f} GB are available; use "
                "--load-mode mmap or auto",
                file.path(), load_mode_name(mode), static_cast<double>(needed) * 1e-9,
                static_cast<double>(available_bytes) * 1e-9);
  PACKMULE_TRY(residency.memory_, AlignedBuffer::allocate(static_cast<size_t>(needed), "weights"));
  return residency;
}

const std::byte* Residency::place(const gguf::TensorInfo& tensor, kernels::InterleaveFn interleave) {
  if (mode_ == LoadMode::kMmap) return tensor.data;
  const auto size = static_cast<int64_t>(tensor.size_bytes);
  const int64_t row_bytes = tensor.row_bytes();
  std::byte* to = memory_.data() + used_;
  used_ += aligned(size);
  const int64_t unit = row_bytes * kernels::kStripRows;
  const int64_t step = std::max(unit, kPieceBytes / unit * unit);
  for (int64_t at = 0; at < size; at += step)
    pieces_.push_back(
        {tensor.data + at, to + at, std::min(step, size - at), row_bytes, tensor.ne[0], interleave});
  return to;
}

void Residency::load(const gguf::File& file, ThreadPool& pool) {
  pool.run(static_cast<int64_t>(pieces_.size()), [&](int64_t i, int) {
    const Piece& piece = pieces_[static_cast<size_t>(i)];
    file.will_read({piece.from, static_cast<size_t>(piece.n_bytes)});
    if (piece.interleave == nullptr) {
      std::memcpy(piece.to, piece.from, static_cast<size_t>(piece.n_bytes));
    } else {
      const int64_t strip_bytes = piece.row_bytes * kernels::kStripRows;
      for (int64_t at = 0; at < piece.n_bytes; at += strip_bytes)
        piece.interleave(piece.from + at, piece.row_bytes, piece.n_cols, piece.to + at);
    }
    file.was_read({piece.from, static_cast<size_t>(piece.n_bytes)});
  });
  pieces_.clear();
  pieces_.shrink_to_fit();
}

}  // namespace packmule::model
