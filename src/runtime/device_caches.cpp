#include "runtime/device_caches.h"

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
    PACKMULE_TRY(made->buffer, vulkan::Buffer::create(gpu_->device(), kind, n_bytes, "a recurrent state"));
  }
  clear(*made);
  return made;
}

void DeviceCaches::clear(State& state) {
  if (shape_->n_recurrent == 0) return;
  (void)run_once(gpu_->device(), [&](vulkan::Recorder& r) { r.fill(of(state).buffer.span(), 0); });
}

void DeviceCaches::copy(const State& from, State& to) {
  if (shape_->n_recurrent == 0) return;
  (void)run_once(gpu_->device(),
                 [&](vulkan::Recorder& r) { r.copy(of(from).buffer.span(), of(to).buffer.span()); });
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
  (void)run_once(gpu_->device(), [&](vulkan::Recorder& r) {
    r.copy(pages_.span(static_cast<int>(from)), pages_.span(static_cast<int>(to)));
  });
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
