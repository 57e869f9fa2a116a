#include "runtime/device_weights.h"

#include <algorithm>
#include <utility>

#include "vulkan/upload.h"

namespace packmule::runtime {
namespace {
constexpr int64_t kWordBytes = 4;  // shaders read whole words: the last one may reach beyond a tensor's end
constexpr size_t kPieceBytes = size_t{64} << 20;
}  // namespace

int DeviceWeights::add(const gguf::TensorInfo& tensor) {
  items_.push_back(
      Item{std::string(tensor.name), {tensor.data, static_cast<size_t>(tensor.size_bytes)}, {}, nullptr});
  tensor_bytes_ += static_cast<int64_t>(tensor.size_bytes);
  return static_cast<int>(items_.size()) - 1;
}

int DeviceWeights::add(const std::vector<float>& values, std::string what) {
  const auto known = std::ranges::find(items_, &values, &Item::source);
  if (known != items_.end()) return static_cast<int>(known - items_.begin());
  items_.push_back(Item{std::move(what), {}, values, &values});
  return static_cast<int>(items_.size()) - 1;
}

vulkan::ArenaLayout DeviceWeights::layout() const {
  vulkan::ArenaLayout layout;
  for (const Item& item : items_)
    layout.add(item.name,
               (static_cast<int64_t>(item.bytes().size()) + kWordBytes - 1) / kWordBytes * kWordBytes);
  return layout;
}

Result<int64_t> DeviceWeights::size_bytes(const Gpu& gpu) const {
  vulkan::ArenaLayout plan = layout();
  PACKMULE_TRY_STATUS(plan.pack(gpu.device()->largest_arena()));
  return plan.total_bytes();
}

Status DeviceWeights::allocate(const Gpu& gpu) {
  PACKMULE_TRY(arenas_, vulkan::Arenas::allocate(gpu.device(), layout(), "weights"));
  return {};
}

Status DeviceWeights::upload(const Gpu& gpu, const gguf::File& file) {
  PACKMULE_TRY(auto uploader, vulkan::Uploader::create(gpu.device()));
  for (size_t i = 0; i < items_.size(); ++i) {
    std::span<const std::byte> rest = items_[i].bytes();
    const vulkan::Span to = span(static_cast<int>(i));
    for (int64_t done = 0; !rest.empty();) {
      const auto piece = rest.first(std::min(rest.size(), kPieceBytes));
      const auto n = static_cast<int64_t>(piece.size());
      const bool of_file = !items_[i].of_file.empty();
      if (of_file) file.will_read(piece);
      PACKMULE_TRY_STATUS(uploader.upload(piece, to.part(done, n)));
      if (of_file) file.was_read(piece);
      rest = rest.subspan(piece.size());
      done += n;
    }
  }
  PACKMULE_TRY_STATUS(uploader.finish());
  for (Item& item : items_) item.values = {};
  return {};
}

}  // namespace packmule::runtime
