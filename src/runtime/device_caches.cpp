#include "runtime/device_caches.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "vulkan/commands.h"

namespace packmule::runtime {
namespace {

constexpr int64_t kFloatBytes = 4;

/// Records what `record(recorder)` says and runs it to its end.
template <class Record>
Status run_once(const std::shared_ptr<vulkan::Device>& device, Record record) {
  PACKMULE_TRY(auto recorder, vulkan::Recorder::begin(device));
  recorder.barrier();
  record(recorder);
  recorder.barrier();
  PACKMULE_TRY(auto list, recorder.finish());
  return list.run();
}

int64_t next_id() {
  static std::atomic<int64_t> last = 0;
  return ++last;
}

const DeviceCaches::DeviceState& of(const cache::DeviceMemory::State& state) {
  return static_cast<const DeviceCaches::DeviceState&>(state);
}

}  // namespace

DeviceCaches::DeviceCaches(std::shared_ptr<Gpu> gpu, const cache::Layout& layout)
    : gpu_(std::move(gpu)), layout_(layout), shape_(cache::StateShape::of(layout, true)) {}

int64_t DeviceCaches::state_bytes(const cache::Layout& layout) {
  return cache::StateShape::of(layout, true)->total_floats() * kFloatBytes;
}

int64_t DeviceCaches::k_offset(const cache::Layout& layout, int layer) {
  int64_t before = 0;
  for (int other = 0; other < layer; ++other)
    before += !layout.recurrent[static_cast<size_t>(other)] && layout.is_on_device(static_cast<size_t>(other))
                  ? 1
                  : 0;
  return before * cache::kPageTokens * layout.n_kv_heads * (layout.k_row_bytes() + layout.v_row_bytes());
}

int64_t DeviceCaches::v_offset(const cache::Layout& layout, int layer) {
  return k_offset(layout, layer) + cache::kPageTokens * layout.n_kv_heads * layout.k_row_bytes();
}

/// Runs work of which nobody hears whether it failed, until they ask for its results.
template <class Record>
void DeviceCaches::attempt(Record record) {
  Status status = run_once(gpu_->device(), record);
  if (copied_ && !status) copied_ = std::move(status);
}

Result<std::unique_ptr<cache::DeviceMemory::State>> DeviceCaches::new_state(Use use) {
  auto made = std::make_unique<DeviceState>();
  made->id = next_id();
  made->owner = this;
  const int64_t n_bytes = shape_->total_floats() * kFloatBytes;
  if (n_bytes > gpu_->device()->largest_arena())
    return fail(ErrorKind::kUnsupported,
                "{}: a recurrent state of {} bytes; the device allocates at most {} at once",
                gpu_->device()->info().id, n_bytes, gpu_->device()->largest_arena());
  if (n_bytes > 0) {
    const auto kind = use == Use::kLive ? vulkan::Buffer::Kind::kDevice : vulkan::Buffer::Kind::kReadback;
    const vulkan::Budget& budget = gpu_->device()->budget();
    const int64_t left = budget.left_bytes();
    PACKMULE_TRY(made->buffer, vulkan::Buffer::create(gpu_->device(), kind, n_bytes, "a recurrent state"));
    if (use == Use::kKept && budget.left_bytes() < std::min(left, kLeftByKeptStates))
      return fail(ErrorKind::kOutOfMemory, "{}: no memory to keep a recurrent state of {} bytes in",
                  gpu_->device()->info().id, n_bytes);
  }
  clear(*made);
  return made;
}

void DeviceCaches::clear(State& state) {
  if (shape_->n_recurrent == 0) return;
  attempt([&](vulkan::Recorder& r) { r.fill(of(state).buffer.span(), 0); });
}

void DeviceCaches::copy(const State& from, State& to) {
  if (shape_->n_recurrent == 0) return;
  attempt([&](vulkan::Recorder& r) { r.copy(of(from).buffer.span(), of(to).buffer.span()); });
}

Status DeviceCaches::allocate_pages(int64_t n_pages) {
  const int64_t bytes = page_bytes(layout_);
  if (bytes == 0) return {};
  vulkan::ArenaLayout plan;
  for (int64_t i = 0; i < n_pages; ++i) plan.add("a page of the KV cache", bytes);
  PACKMULE_TRY(pages_, vulkan::Arenas::allocate(gpu_->device(), std::move(plan), "the KV cache"));
  return run_once(gpu_->device(), [&](vulkan::Recorder& r) {
    for (int64_t i = 0; i < n_pages; ++i) r.fill(pages_.span(static_cast<int>(i)), 0);
  });
}

void DeviceCaches::copy_page(int64_t from, int64_t to) {
  if (page_bytes(layout_) == 0) return;
  attempt([&](vulkan::Recorder& r) {
    r.copy(pages_.span(static_cast<int>(from)), pages_.span(static_cast<int>(to)));
  });
}

template <class Byte>
Result<std::vector<vulkan::Exchange::Piece<Byte>>> DeviceCaches::prepare(
    std::span<const Piece<Byte>> pieces) {
  PACKMULE_TRY_STATUS(copied_);
  if (!exchange_) {
    PACKMULE_TRY(exchange_, vulkan::Exchange::create(gpu_->device()));
  }
  std::vector<vulkan::Exchange::Piece<Byte>> prepared;
  prepared.reserve(pieces.size());
  for (const auto& [page, offset, host] : pieces)
    prepared.push_back(
        {pages_.span(static_cast<int>(page)).part(offset, static_cast<int64_t>(host.size())), host});
  return prepared;
}

Status DeviceCaches::read_pages(std::span<const Piece<std::byte>> pieces) {
  PACKMULE_TRY(const auto prepared, prepare(pieces));
  return exchange_->read(prepared);
}

Status DeviceCaches::write_pages(std::span<const Piece<const std::byte>> pieces) {
  PACKMULE_TRY(const auto prepared, prepare(pieces));
  return exchange_->write(prepared);
}

Result<std::span<std::byte>> DeviceCaches::view(State& kept) {
  if (shape_->n_recurrent == 0) return std::span<std::byte>();
  PACKMULE_TRY_STATUS(copied_);
  const std::span<std::byte> bytes = of(kept).buffer.mapped();
  if (bytes.empty()) return fail(ErrorKind::kInternal, "the state of a running sequence is not the host's");
  // Nothing but the barriers: what a pass that failed has left running is waited for, and seen by the host.
  PACKMULE_TRY_STATUS(run_once(gpu_->device(), [](vulkan::Recorder&) {}));
  return bytes;
}

vulkan::Span DeviceCaches::state(const DeviceState& state, int layer) const {
  const int64_t number = shape_->mixer_number[static_cast<size_t>(layer)];
  return state.buffer.span().part(number * shape_->state_floats * kFloatBytes,
                                  shape_->state_floats * kFloatBytes);
}

vulkan::Span DeviceCaches::history(const DeviceState& state, int layer) const {
  const int64_t number = shape_->mixer_number[static_cast<size_t>(layer)];
  const int64_t before = shape_->n_recurrent * shape_->state_floats + number * shape_->history_floats;
  return state.buffer.span().part(before * kFloatBytes, shape_->history_floats * kFloatBytes);
}

}  // namespace packmule::runtime
