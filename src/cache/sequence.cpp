#include "cache/sequence.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace packmule::cache {

struct PagePool::Impl {
  Layout layout;
  AlignedBuffer memory;
  int64_t n_pages = 0;
  int64_t page_bytes = 0;
  std::vector<int64_t> free;          // page numbers, the next to hand out last
  std::vector<int64_t> mixer_number;  // per layer: how many layers of its kind come before it

  /// The rows of a KV head in page `page`; `layer` counts attention layers.
  [[nodiscard]] std::byte* k_of(int64_t page, int64_t layer, int64_t kv_head) const {
    const int64_t k_bytes = kPageTokens * layout.k_row_bytes(), v_bytes = kPageTokens * layout.v_row_bytes();
    const int64_t before = layer * layout.n_kv_heads;
    return memory.data() + page * page_bytes + before * (k_bytes + v_bytes) + kv_head * k_bytes;
  }
  [[nodiscard]] std::byte* v_of(int64_t page, int64_t layer, int64_t kv_head) const {
    const int64_t v_bytes = kPageTokens * layout.v_row_bytes();
    return k_of(page, layer, layout.n_kv_heads) + kv_head * v_bytes;
  }
};

struct Sequence::Impl {
  AlignedBuffer recurrent;     // all S, then all histories
  std::vector<int64_t> pages;  // page numbers, in the order of the tokens
  // Tables of page pointers, `stride` entries for each (attention layer, KV head).
  std::vector<const void*> k_table;
  std::vector<const void*> v_table;
  int64_t stride = 0;
};

PagePool::PagePool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PagePool::~PagePool() = default;

Result<std::shared_ptr<PagePool>> PagePool::create(Layout layout, int64_t capacity_tokens) {
  PACKMULE_TRY_STATUS(layout.validate());
  if (capacity_tokens < 1)
    return fail(ErrorKind::kInvalidArgument, "KV cache: expected room for at least one token, found {}",
                capacity_tokens);
  auto impl = std::make_unique<Impl>();
  impl->page_bytes = layout.kv_bytes_per_token() * kPageTokens;
  const int64_t n_pages = (capacity_tokens - 1) / kPageTokens + 1;
  if (impl->page_bytes > 0 && n_pages > INT64_MAX / impl->page_bytes)
    return fail(ErrorKind::kOutOfMemory, "KV cache: {} tokens of {} bytes are more than any memory holds",
                capacity_tokens, layout.kv_bytes_per_token());
  PACKMULE_TRY(impl->memory,
               AlignedBuffer::allocate(static_cast<size_t>(n_pages * impl->page_bytes), "the KV cache"));
  impl->n_pages = n_pages;
  impl->free.reserve(static_cast<size_t>(n_pages));
  for (int64_t page = n_pages - 1; page >= 0; --page) impl->free.push_back(page);
  int64_t n_of_kind[2] = {0, 0};
  for (const bool recurrent : layout.recurrent) impl->mixer_number.push_back(n_of_kind[recurrent]++);
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
int64_t PagePool::capacity_bytes() const {
  return impl_->n_pages * impl_->page_bytes;
}

Result<std::unique_ptr<Sequence>> PagePool::new_sequence() {
  auto impl = std::make_unique<Sequence::Impl>();
  PACKMULE_TRY(impl->recurrent,
               AlignedBuffer::allocate(static_cast<size_t>(layout().recurrent_bytes()), "a recurrent state"));
  // Everything a sequence could ever need, so that growing it allocates nothing.
  impl->stride = impl_->n_pages;
  impl->pages.reserve(static_cast<size_t>(impl_->n_pages));
  const size_t n_entries =
      static_cast<size_t>(layout().n_attention_layers() * layout().n_kv_heads * impl->stride);
  impl->k_table.resize(n_entries);
  impl->v_table.resize(n_entries);
  return std::unique_ptr<Sequence>(new Sequence(shared_from_this(), std::move(impl)));
}

Sequence::Sequence(std::shared_ptr<PagePool> pool, std::unique_ptr<Impl> impl)
    : pool_(std::move(pool)), impl_(std::move(impl)) {}

Sequence::~Sequence() {
  pool_->impl_->free.insert(pool_->impl_->free.end(), impl_->pages.rbegin(), impl_->pages.rend());
}

const Layout& Sequence::layout() const {
  return pool_->layout();
}

Status Sequence::reserve(int64_t n_more_tokens) {
  PagePool::Impl& pool = *pool_->impl_;
  const Layout& shape = pool.layout;
  const int64_t held = static_cast<int64_t>(impl_->pages.size());
  if (n_more_tokens > held * kPageTokens - n_tokens_) {
    const int64_t available = held + static_cast<int64_t>(pool.free.size());
    if (n_more_tokens > available * kPageTokens - n_tokens_)
      return fail(ErrorKind::kOutOfMemory,
                  "KV cache is full: {} more tokens after {} asked for, room for {}; raise --ctx-size",
                  n_more_tokens, n_tokens_, available * kPageTokens - n_tokens_);
  }
  const int64_t needed = (n_tokens_ + n_more_tokens + kPageTokens - 1) / kPageTokens;
  for (int64_t index = held; index < needed; ++index) {
    const int64_t number = pool.free.back();
    pool.free.pop_back();
    impl_->pages.push_back(number);
    for (int64_t layer = 0; layer < shape.n_attention_layers(); ++layer)
      for (int64_t head = 0; head < shape.n_kv_heads; ++head) {
        const size_t entry = static_cast<size_t>((layer * shape.n_kv_heads + head) * impl_->stride + index);
        impl_->k_table[entry] = pool.k_of(number, layer, head);
        impl_->v_table[entry] = pool.v_of(number, layer, head);
      }
  }
  return {};
}

void Sequence::reset() {
  pool_->impl_->free.insert(pool_->impl_->free.end(), impl_->pages.rbegin(), impl_->pages.rend());
  impl_->pages.clear();
  std::memset(impl_->recurrent.data(), 0, impl_->recurrent.size_bytes());
  n_tokens_ = 0;
}

std::span<const void* const> Sequence::k_pages(int layer, int64_t kv_head) const {
  const int64_t row = pool_->impl_->mixer_number[layer] * layout().n_kv_heads + kv_head;
  return {impl_->k_table.data() + row * impl_->stride, impl_->pages.size()};
}

std::span<const void* const> Sequence::v_pages(int layer, int64_t kv_head) const {
  const int64_t row = pool_->impl_->mixer_number[layer] * layout().n_kv_heads + kv_head;
  return {impl_->v_table.data() + row * impl_->stride, impl_->pages.size()};
}

std::byte* Sequence::k_row(int layer, int64_t kv_head, int64_t token) const {
  const PagePool::Impl& pool = *pool_->impl_;
  const int64_t page = impl_->pages[static_cast<size_t>(token / kPageTokens)];
  return pool.k_of(page, pool.mixer_number[layer], kv_head) + token % kPageTokens * layout().k_row_bytes();
}

std::byte* Sequence::v_row(int layer, int64_t kv_head, int64_t token) const {
  const PagePool::Impl& pool = *pool_->impl_;
  const int64_t page = impl_->pages[static_cast<size_t>(token / kPageTokens)];
  return pool.v_of(page, pool.mixer_number[layer], kv_head) + token % kPageTokens * layout().v_row_bytes();
}

float* Sequence::state(int layer) const {
  const Layout& shape = layout();
  return impl_->recurrent.as<float>().data() +
         pool_->impl_->mixer_number[layer] * shape.n_v_heads * shape.dk * shape.dv;
}

float* Sequence::conv_history(int layer) const {
  const Layout& shape = layout();
  const int64_t n_recurrent = static_cast<int64_t>(shape.recurrent.size()) - shape.n_attention_layers();
  return impl_->recurrent.as<float>().data() + n_recurrent * shape.n_v_heads * shape.dk * shape.dv +
         pool_->impl_->mixer_number[layer] * (shape.conv_taps - 1) * shape.conv_channels;
}

}  // namespace packmule::cache
