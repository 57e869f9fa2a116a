#include "vulkan/stream_ring.h"

#include <utility>

namespace packmule::vulkan {

Result<StreamRing> StreamRing::create(std::shared_ptr<Device> device, int64_t n_slots, int64_t slot_bytes) {
  StreamRing ring;
  ring.device_ = std::move(device);
  ring.slot_bytes_ = slot_bytes;
  for (int64_t i = 0; i < n_slots; ++i) {
    Slot& slot = ring.slots_.emplace_back();
    PACKMULE_TRY(slot.staging, Buffer::create(ring.device_, Buffer::Kind::kUpload, slot_bytes,
                                              "staging of streamed experts"));
    PACKMULE_TRY(slot.memory,
                 Buffer::create(ring.device_, Buffer::Kind::kShared, slot_bytes, "streamed experts"));
  }
  ring.works_.resize(static_cast<size_t>(2 * n_slots));
  return ring;
}

Result<Ticket> StreamRing::run(int64_t n_bytes, const Fill& fill, const Work& work) {
  if (n_bytes > slot_bytes_)
    return fail(ErrorKind::kInternal, "a piece of {} bytes for slots of {}", n_bytes, slot_bytes_);
  Slot& slot = slots_[n_run_ % slots_.size()];
  CommandList& list = works_[n_run_ % works_.size()];
  ++n_run_;
  PACKMULE_TRY_STATUS(device_->wait(slot.copied, QueueKind::kTransfer));
  fill(slot.staging.mapped().first(static_cast<size_t>(n_bytes)));
  if (slot.copy_bytes != n_bytes) {
    PACKMULE_TRY(Recorder recorder, Recorder::begin(device_, QueueKind::kTransfer));
    recorder.copy(slot.staging.span().part(0, n_bytes), slot.memory.span().part(0, n_bytes));
    PACKMULE_TRY(slot.copy, recorder.finish());
    slot.copy_bytes = n_bytes;
  }
  PACKMULE_TRY(slot.copied, slot.copy.submit(slot.worked));

  PACKMULE_TRY(Recorder recorder, Recorder::begin(device_));
  // The work before may be of a list without a barrier at its end, and this one's results are read by the
  // next.
  recorder.barrier();
  PACKMULE_TRY_STATUS(work(recorder, slot.memory.span()));
  recorder.barrier();
  PACKMULE_TRY(list, recorder.finish());
  PACKMULE_TRY(slot.worked, list.submit(slot.copied));
  return slot.worked;
}

Status StreamRing::finish() {
  for (const Slot& slot : slots_) {
    PACKMULE_TRY_STATUS(device_->wait(slot.copied, QueueKind::kTransfer));
    PACKMULE_TRY_STATUS(device_->wait(slot.worked));
  }
  return {};
}

}  // namespace packmule::vulkan
