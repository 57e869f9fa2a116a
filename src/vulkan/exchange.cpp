#include "vulkan/exchange.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace packmule::vulkan {
namespace {

/// What is left of a list of pieces, in parts of at most some size.
template <class Byte>
class Rest {
 public:
  explicit Rest(std::span<const Exchange::Piece<Byte>> pieces) : pieces_(pieces) { skip_empty(); }
  [[nodiscard]] bool any() const { return !pieces_.empty(); }
  Exchange::Piece<Byte> take(size_t most_bytes) {
    const Exchange::Piece<Byte>& first = pieces_.front();
    const size_t n = std::min(most_bytes, first.host.size() - done_);
    const Exchange::Piece<Byte> part{first.device.part(static_cast<int64_t>(done_), static_cast<int64_t>(n)),
                                     first.host.subspan(done_, n)};
    done_ += n;
    skip_empty();
    return part;
  }

 private:
  void skip_empty() {
    while (!pieces_.empty() && done_ == pieces_.front().host.size()) {
      pieces_ = pieces_.subspan(1);
      done_ = 0;
    }
  }
  std::span<const Exchange::Piece<Byte>> pieces_;
  size_t done_ = 0;  // bytes of the first
};

template <class Byte>
Status check(std::span<const Exchange::Piece<Byte>> pieces) {
  for (const auto& piece : pieces)
    if (static_cast<int64_t>(piece.host.size()) != piece.device.size_bytes)
      return fail(ErrorKind::kInternal, "exchange of {} bytes of the host and {} of the device",
                  piece.host.size(), piece.device.size_bytes);
  return {};
}

}  // namespace

Result<Exchange> Exchange::create(std::shared_ptr<Device> device, int64_t slot_bytes) {
  Exchange exchange;
  exchange.device_ = std::move(device);
  for (Slot& slot : exchange.slots_) {
    PACKMULE_TRY(slot.staging, Buffer::create(exchange.device_, Buffer::Kind::kReadback, slot_bytes,
                                              "copies to and from the host"));
  }
  return exchange;
}

/// Waits for what the slot was to bring, and takes it out.
Status Exchange::empty(Slot& slot) {
  const auto to = std::exchange(slot.to, {});
  PACKMULE_TRY_STATUS(device_->wait(slot.copies.ticket()));
  size_t at = 0;
  for (const std::span<std::byte> part : to) {
    std::memcpy(part.data(), slot.staging.mapped().data() + at, part.size());
    at += part.size();
  }
  return {};
}

Status Exchange::read(std::span<const Piece<std::byte>> pieces) {
  PACKMULE_TRY_STATUS(check(pieces));
  for (Slot& slot : slots_) slot.to.clear();  // of one that failed
  Rest<std::byte> rest(pieces);
  size_t next = 0;
  while (rest.any()) {
    Slot& slot = slots_[next];
    next = (next + 1) % slots_.size();
    PACKMULE_TRY_STATUS(empty(slot));
    PACKMULE_TRY(Recorder recorder, Recorder::begin(device_));
    recorder.barrier();
    const size_t room = slot.staging.mapped().size();
    for (size_t at = 0; at < room && rest.any();) {
      const auto part = rest.take(room - at);
      recorder.copy(part.device, slot.staging.span().part(static_cast<int64_t>(at), part.device.size_bytes));
      slot.to.push_back(part.host);
      at += part.host.size();
    }
    recorder.barrier();
    PACKMULE_TRY(slot.copies, recorder.finish());
    PACKMULE_TRY_STATUS(slot.copies.submit());
  }
  for (size_t i = 0; i < slots_.size(); ++i) PACKMULE_TRY_STATUS(empty(slots_[(next + i) % slots_.size()]));
  return {};
}

Status Exchange::write(std::span<const Piece<const std::byte>> pieces) {
  PACKMULE_TRY_STATUS(check(pieces));
  Rest<const std::byte> rest(pieces);
  size_t next = 0;
  while (rest.any()) {
    Slot& slot = slots_[next];
    next = (next + 1) % slots_.size();
    PACKMULE_TRY_STATUS(device_->wait(slot.copies.ticket()));
    PACKMULE_TRY(Recorder recorder, Recorder::begin(device_));
    recorder.barrier();
    const size_t room = slot.staging.mapped().size();
    for (size_t at = 0; at < room && rest.any();) {
      const auto part = rest.take(room - at);
      std::memcpy(slot.staging.mapped().data() + at, part.host.data(), part.host.size());
      recorder.copy(slot.staging.span().part(static_cast<int64_t>(at), part.device.size_bytes), part.device);
      at += part.host.size();
    }
    recorder.barrier();
    PACKMULE_TRY(slot.copies, recorder.finish());
    PACKMULE_TRY_STATUS(slot.copies.submit());
  }
  for (const Slot& slot : slots_) PACKMULE_TRY_STATUS(device_->wait(slot.copies.ticket()));
  return {};
}

}  // namespace packmule::vulkan
