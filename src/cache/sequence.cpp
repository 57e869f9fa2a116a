#include "cache/sequence.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace packmule::cache {

struct PagePool::Impl {
  /// Who has a page.
  struct Holders {
    int32_t sequences = 0;
    int32_t keepers = 0;
  };

  Layout layout;
  std::shared_ptr<const StateShape> state_shape;
  std::shared_ptr<DeviceMemory> device;
  AlignedBuffer memory;
  int64_t n_pages = 0;
  int64_t host_page_bytes = 0;  // of the host's part
  int64_t page_bytes = 0;       // of both sides
  /// Attention layers that lie together: in a page of both sides, and in one side's part of it.
  struct Run {
    bool on_device = false;
    int64_t offset = 0, side_offset = 0;
    int64_t n_bytes = 0;
  };
  std::vector<Run> runs;      // in the model's order
  std::vector<int64_t> free;  // page numbers, the next to hand out last
  std::vector<Holders> holders;
  int64_t n_kept = 0;

  /// The rows of a KV head in page `page`; `layer` counts attention layers of the host.
  [[nodiscard]] std::byte* k_of(int64_t page, int64_t layer, int64_t kv_head) const {
    const int64_t k_bytes = kPageTokens * layout.k_row_bytes(), v_bytes = kPageTokens * layout.v_row_bytes();
    const int64_t before = layer * layout.n_kv_heads;
    return page_at(page) + before * (k_bytes + v_bytes) + kv_head * k_bytes;
  }
  [[nodiscard]] std::byte* v_of(int64_t page, int64_t layer, int64_t kv_head) const {
    const int64_t v_bytes = kPageTokens * layout.v_row_bytes();
    return k_of(page, layer, layout.n_kv_heads) + kv_head * v_bytes;
  }
  [[nodiscard]] std::byte* page_at(int64_t page) const { return memory.data() + page * host_page_bytes; }

  [[nodiscard]] static std::vector<Run> runs_of(const Layout& layout) {
    std::vector<Run> runs;
    const int64_t n_layers = std::max<int64_t>(1, layout.n_attention_layers());
    const int64_t layer_bytes = kPageTokens * layout.kv_bytes_per_token() / n_layers;
    int64_t end = 0, side_end[2] = {0, 0};
    for (size_t layer = 0; layer < layout.recurrent.size(); ++layer) {
      if (layout.recurrent[layer]) continue;
      const bool side = layout.is_on_device(layer);
      if (runs.empty() || runs.back().on_device != side) runs.push_back({side, end, side_end[side], 0});
      runs.back().n_bytes += layer_bytes;
      end += layer_bytes;
      side_end[side] += layer_bytes;
    }
    return runs;
  }
  /// The host's part of pages and `bytes` of both sides, a page after the other: calls `host(part, bytes)`
  /// for each run of the host, and gives the pieces of the device.
  template <class Byte, class Copy>
  std::vector<DeviceMemory::Piece<Byte>> exchange(std::span<const int64_t> pages, std::span<Byte> bytes,
                                                  Copy host) const {
    std::vector<DeviceMemory::Piece<Byte>> pieces;
    for (const int64_t page : pages) {
      for (const Run& run : runs) {
        const auto part = bytes.subspan(static_cast<size_t>(run.offset), static_cast<size_t>(run.n_bytes));
        if (run.on_device)
          pieces.push_back({page, run.side_offset, part});
        else
          host(page_at(page) + run.side_offset, part);
      }
      bytes = bytes.subspan(static_cast<size_t>(page_bytes));
    }
    return pieces;
  }

  int64_t take() {
    const int64_t page = free.back();
    free.pop_back();
    change(page, 1, 0);
    return page;
  }
  void change(int64_t page, int32_t sequences, int32_t keepers) {
    Holders& who = holders[static_cast<size_t>(page)];
    const auto kept = [&] { return who.sequences == 0 && who.keepers > 0; };
    n_kept -= kept() ? 1 : 0;
    who.sequences += sequences;
    who.keepers += keepers;
    n_kept += kept() ? 1 : 0;
    if (who.sequences == 0 && who.keepers == 0) free.push_back(page);
  }
};

struct Sequence::Impl {
  RecurrentState recurrent;
  std::vector<int64_t> pages;  // page numbers, in the order of the tokens
  // Tables of page pointers, `stride` entries for each (attention layer, KV head).
  std::vector<const void*> k_table;
  std::vector<const void*> v_table;
  int64_t stride = 0;
};

HeldPages::HeldPages(std::shared_ptr<PagePool> pool, std::span<const int64_t> numbers)
    : pool_(std::move(pool)), numbers_(numbers.begin(), numbers.end()) {
  for (const int64_t page : numbers_) pool_->impl_->change(page, 0, 1);
}

HeldPages& HeldPages::operator=(HeldPages&& other) noexcept {
  std::swap(pool_, other.pool_);
  numbers_.swap(other.numbers_);
  return *this;
}

void HeldPages::keep_last(size_t n) {
  const auto end = numbers_.end() - static_cast<std::ptrdiff_t>(std::min(n, numbers_.size()));
  for (auto page = numbers_.begin(); page != end; ++page) pool_->impl_->change(*page, 0, -1);
  numbers_.erase(numbers_.begin(), end);
}

void HeldPages::release() {
  for (const int64_t page : numbers_) pool_->impl_->change(page, 0, -1);
  numbers_.clear();
}

PagePool::PagePool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PagePool::~PagePool() = default;

Result<std::shared_ptr<PagePool>> PagePool::create(Layout layout, int64_t capacity_tokens,
                                                   std::shared_ptr<DeviceMemory> device) {
  PACKMULE_TRY_STATUS(layout.validate());
  if (layout.has_device_layers() != (device != nullptr))
    return fail(ErrorKind::kInternal,
                "a page pool with layers on a device needs its memory, and no other does");
  if (capacity_tokens < 1)
    return fail(ErrorKind::kInvalidArgument, "KV cache: expected room for at least one token, found {}",
                capacity_tokens);
  auto impl = std::make_unique<Impl>();
  impl->host_page_bytes = layout.kv_bytes_per_token(false) * kPageTokens;
  const int64_t n_pages = (capacity_tokens - 1) / kPageTokens + 1;
  if (impl->host_page_bytes > 0 && n_pages > INT64_MAX / impl->host_page_bytes)
    return fail(ErrorKind::kOutOfMemory, "KV cache: {} tokens of {} bytes are more than any memory holds",
                capacity_tokens, layout.kv_bytes_per_token(false));
  if (device != nullptr) PACKMULE_TRY_STATUS(device->allocate_pages(n_pages));
  impl->device = std::move(device);
  PACKMULE_TRY(impl->memory,
               AlignedBuffer::allocate(static_cast<size_t>(n_pages * impl->host_page_bytes), "the KV cache"));
  impl->n_pages = n_pages;
  impl->free.reserve(static_cast<size_t>(n_pages));
  for (int64_t page = n_pages - 1; page >= 0; --page) impl->free.push_back(page);
  impl->holders.resize(static_cast<size_t>(n_pages));
  impl->state_shape = StateShape::of(layout);
  impl->runs = Impl::runs_of(layout);
  for (const Impl::Run& run : impl->runs) impl->page_bytes += run.n_bytes;
  impl->layout = std::move(layout);
  return std::shared_ptr<PagePool>(new PagePool(std::move(impl)));
}

const Layout& PagePool::layout() const {
  return impl_->layout;
}
int64_t PagePool::capacity_tokens() const {
  return impl_->n_pages * kPageTokens;
}
int64_t PagePool::free_tokens() const {
  return static_cast<int64_t>(impl_->free.size()) * kPageTokens;
}
int64_t PagePool::n_pages() const {
  return impl_->n_pages;
}
int64_t PagePool::n_free_pages() const {
  return static_cast<int64_t>(impl_->free.size());
}
int64_t PagePool::n_kept_pages() const {
  return impl_->n_kept;
}
int64_t PagePool::capacity_bytes() const {
  return impl_->n_pages * kPageTokens * impl_->layout.kv_bytes_per_token();
}

int64_t PagePool::page_bytes() const {
  return impl_->page_bytes;
}

Status PagePool::read_pages(std::span<const int64_t> pages, std::span<std::byte> to) const {
  const auto pieces = impl_->exchange(pages, to, [](const std::byte* part, std::span<std::byte> bytes) {
    std::memcpy(bytes.data(), part, bytes.size());
  });
  return pieces.empty() ? Status() : impl_->device->read_pages(pieces);
}

Status PagePool::write_pages(std::span<const int64_t> pages, std::span<const std::byte> from) {
  const auto pieces = impl_->exchange(pages, from, [](std::byte* part, std::span<const std::byte> bytes) {
    std::memcpy(part, bytes.data(), bytes.size());
  });
  return pieces.empty() ? Status() : impl_->device->write_pages(pieces);
}

HeldPages PagePool::take_pages(int64_t n) {
  const auto& free = impl_->free;
  const std::vector<int64_t> numbers(free.end() - static_cast<std::ptrdiff_t>(n), free.end());
  impl_->free.resize(free.size() - numbers.size());
  return {shared_from_this(), numbers};
}

Result<RecurrentState> PagePool::new_state() const {
  return RecurrentState::allocate(impl_->state_shape, impl_->device, DeviceMemory::Use::kKept);
}

Result<std::unique_ptr<Sequence>> PagePool::new_sequence(int64_t max_tokens) {
  auto impl = std::make_unique<Sequence::Impl>();
  PACKMULE_TRY(impl->recurrent,
               RecurrentState::allocate(impl_->state_shape, impl_->device, DeviceMemory::Use::kLive));
  // Everything a sequence could ever need, so that growing it allocates nothing.
  impl->stride = impl_->n_pages;
  if (max_tokens > 0) impl->stride = std::min(impl->stride, (max_tokens - 1) / kPageTokens + 1);
  impl->pages.reserve(static_cast<size_t>(impl->stride));
  const size_t n_entries =
      static_cast<size_t>(impl_->state_shape->n_attention * layout().n_kv_heads * impl->stride);
  impl->k_table.resize(n_entries);
  impl->v_table.resize(n_entries);
  return std::unique_ptr<Sequence>(new Sequence(shared_from_this(), std::move(impl)));
}

Sequence::Sequence(std::shared_ptr<PagePool> pool, std::unique_ptr<Impl> impl)
    : pool_(std::move(pool)), impl_(std::move(impl)) {}

Sequence::~Sequence() {
  release();
}

const Layout& Sequence::layout() const {
  return pool_->layout();
}

int64_t Sequence::pages_to_reserve(int64_t n_more_tokens) const {
  const int64_t held = static_cast<int64_t>(impl_->pages.size());
  const int64_t room = held * kPageTokens - n_tokens_;
  return n_more_tokens > room ? (n_more_tokens - room - 1) / kPageTokens + 1 : 0;
}

Status Sequence::reserve(int64_t n_more_tokens) {
  PagePool::Impl& pool = *pool_->impl_;
  const int64_t held = static_cast<int64_t>(impl_->pages.size());
  const int64_t available = std::min(held + pool_->n_free_pages(), impl_->stride);
  const int64_t n_new = pages_to_reserve(n_more_tokens);
  if (n_new > available - held)
    return fail(ErrorKind::kOutOfMemory,
                "KV cache is full: {} more tokens after {} asked for, room for {}; raise --ctx-size",
                n_more_tokens, n_tokens_, available * kPageTokens - n_tokens_);
  for (int64_t i = 0; i < n_new; ++i) append(pool.take());
  return {};
}

void Sequence::append(int64_t page) {
  const PagePool::Impl& pool = *pool_->impl_;
  const auto index = static_cast<int64_t>(impl_->pages.size());
  impl_->pages.push_back(page);
  for (int64_t layer = 0; layer < pool.state_shape->n_attention; ++layer)
    for (int64_t head = 0; head < pool.layout.n_kv_heads; ++head) {
      const auto entry = static_cast<size_t>((layer * pool.layout.n_kv_heads + head) * impl_->stride + index);
      impl_->k_table[entry] = pool.k_of(page, layer, head);
      impl_->v_table[entry] = pool.v_of(page, layer, head);
    }
}

void Sequence::release() {
  // The first page is handed out first again.
  for (auto page = impl_->pages.rbegin(); page != impl_->pages.rend(); ++page)
    pool_->impl_->change(*page, -1, 0);
  impl_->pages.clear();
  n_tokens_ = 0;
}

void Sequence::reset() {
  release();
  impl_->recurrent.clear();
}

Status Sequence::resume(std::span<const int64_t> pages, int64_t n_tokens, const RecurrentState& state) {
  PagePool::Impl& pool = *pool_->impl_;
  release();
  const auto n_whole = static_cast<size_t>(n_tokens / kPageTokens);
  const bool partial = n_tokens % kPageTokens != 0;
  if (n_tokens > impl_->stride * kPageTokens || (partial && pool.free.empty())) {
    reset();
    return fail(ErrorKind::kOutOfMemory, "KV cache is full: no page to go on in after {} tokens", n_tokens);
  }
  for (const int64_t page : pages.first(n_whole)) {
    pool.change(page, 1, 0);
    append(page);
  }
  if (partial) {
    append(pool.take());
    // Rows that do not count yet are copied as well: they are written before they are read.
    if (pool.host_page_bytes > 0)
      std::memcpy(pool.page_at(impl_->pages.back()), pool.page_at(pages[n_whole]),
                  static_cast<size_t>(pool.host_page_bytes));
    if (pool.device != nullptr) pool.device->copy_page(pages[n_whole], impl_->pages.back());
  }
  impl_->recurrent.copy_from(state);
  n_tokens_ = n_tokens;
  return {};
}

std::span<const int64_t> Sequence::page_numbers() const {
  return impl_->pages;
}

RecurrentState& Sequence::recurrent() const {
  return impl_->recurrent;
}

std::span<const void* const> Sequence::k_pages(int layer, int64_t kv_head) const {
  const int64_t row = pool_->impl_->state_shape->mixer_number[layer] * layout().n_kv_heads + kv_head;
  return {impl_->k_table.data() + row * impl_->stride, impl_->pages.size()};
}

std::span<const void* const> Sequence::v_pages(int layer, int64_t kv_head) const {
  const int64_t row = pool_->impl_->state_shape->mixer_number[layer] * layout().n_kv_heads + kv_head;
  return {impl_->v_table.data() + row * impl_->stride, impl_->pages.size()};
}

std::byte* Sequence::k_row(int layer, int64_t kv_head, int64_t token) const {
  const PagePool::Impl& pool = *pool_->impl_;
  const int64_t page = impl_->pages[static_cast<size_t>(token / kPageTokens)];
  return pool.k_of(page, pool.state_shape->mixer_number[layer], kv_head) +
         token % kPageTokens * layout().k_row_bytes();
}

std::byte* Sequence::v_row(int layer, int64_t kv_head, int64_t token) const {
  const PagePool::Impl& pool = *pool_->impl_;
  const int64_t page = impl_->pages[static_cast<size_t>(token / kPageTokens)];
  return pool.v_of(page, pool.state_shape->mixer_number[layer], kv_head) +
         token % kPageTokens * layout().v_row_bytes();
}

}  // namespace packmule::cache
