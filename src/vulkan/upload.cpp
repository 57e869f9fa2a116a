#include "vulkan/upload.h"

#include <algorithm>
#include <cstring>

namespace packmule::vulkan {

Result<Uploader> Uploader::create(std::shared_ptr<Device> device, int64_t slot_bytes) {
  Uploader uploader;
  uploader.device_ = std::move(device);
  for (int i = 0; i < kSlots; ++i) {
    Slot slot;
    PACKMULE_TRY(slot.staging,
                 Buffer::create(uploader.device_, Buffer::Kind::kUpload, slot_bytes, "staging buffers"));
    uploader.slots_.push_back(std::move(slot));
  }
  return uploader;
}

Status Uploader::upload(std::span<const std::byte> from, const Span& to, const Progress& progress) {
  if (static_cast<int64_t>(from.size()) > to.size_bytes)
    return fail(ErrorKind::kInternal, "upload of {} bytes into {}", from.size(), to.size_bytes);
  int64_t done = 0;
  while (!from.empty()) {
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % slots_.size();
    PACKMULE_TRY_STATUS(device_->wait(slot.ticket));
    const size_t n = std::min(from.size(), slot.staging.mapped().size());
    std::memcpy(slot.staging.mapped().data(), from.data(), n);
    PACKMULE_TRY(Recorder recorder, Recorder::begin(device_));
    recorder.copy(slot.staging.span().part(0, static_cast<int64_t>(n)),
                  to.part(done, static_cast<int64_t>(n)));
    recorder.barrier();
    PACKMULE_TRY(slot.copy, recorder.finish());
    PACKMULE_TRY(slot.ticket, slot.copy.submit());
    from = from.subspan(n);
    done += static_cast<int64_t>(n);
    if (progress) progress(done);
  }
  return {};
}

Status Uploader::finish() {
  for (const Slot& slot : slots_) PACKMULE_TRY_STATUS(device_->wait(slot.ticket));
  return {};
}

Status read_back(const std::shared_ptr<Device>& device, const Span& from, std::span<std::byte> to) {
  if (static_cast<int64_t>(to.size()) != from.size_bytes)
    return fail(ErrorKind::kInternal, "read-back of {} bytes into {}", from.size_bytes, to.size());
  if (to.empty()) return {};
  const int64_t piece = std::min<int64_t>(from.size_bytes, Uploader::kSlotBytes);
  PACKMULE_TRY(const Buffer staging,
               Buffer::create(device, Buffer::Kind::kReadback, piece, "a read-back buffer"));
  for (int64_t done = 0; done < from.size_bytes; done += piece) {
    const int64_t n = std::min(piece, from.size_bytes - done);
    PACKMULE_TRY(Recorder recorder, Recorder::begin(device));
    recorder.barrier();
    recorder.copy(from.part(done, n), staging.span().part(0, n));
    recorder.barrier();
    PACKMULE_TRY(CommandList list, recorder.finish());
    PACKMULE_TRY(const Ticket ticket, list.submit());
    PACKMULE_TRY_STATUS(device->wait(ticket));
    std::memcpy(to.data() + done, staging.mapped().data(), static_cast<size_t>(n));
  }
  return {};
}

}  // namespace packmule::vulkan
