// Everything one conversation leaves behind in the model: KV pages of the attention layers, recurrent and
// convolution state of the DeltaNet layers.
//
// A KV page holds `kPageTokens` tokens of all attention layers: layer by layer, first K then V, each head by
// head, kPageTokens rows [head_dim] in the cache's format: a head's rows follow each other, for they are read
// together. Pages come from a pool with a fixed capacity, so a context that does not fit is refused when it
// is asked for, not in the middle of a sentence. The recurrent state of a layer is S [nv, dk, dv] in float32;
// its convolution history the last (taps - 1) rows [channels] before the convolution, oldest first.
//
// Layers whose cache is on a device have their part of every page and state there (device_memory.h), in the
// same order; k_pages(), k_row(), state() and their like are of the host's layers alone.
//
// Pages are counted references: a page goes back to the pool when the last sequence and the last HeldPages
// let go of it. Rows once written never change, and a page is written by no sequence but the one that took it
// from the pool; so whoever knows how many of its rows are his may keep a page that its writer goes on
// filling.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "cache/device_memory.h"
#include "cache/layout.h"
#include "cache/recurrent_state.h"

namespace packmule::cache {

class PagePool;

/// Pages that are kept for later sequences.
class HeldPages {
 public:
  HeldPages() = default;
  HeldPages(std::shared_ptr<PagePool> pool, std::span<const int64_t> numbers);
  HeldPages(HeldPages&& other) noexcept = default;
  HeldPages& operator=(HeldPages&& other) noexcept;
  HeldPages(const HeldPages&) = delete;
  HeldPages& operator=(const HeldPages&) = delete;
  ~HeldPages() { release(); }

  [[nodiscard]] std::span<const int64_t> numbers() const { return numbers_; }
  /// Lets go of all but the last `n`.
  void keep_last(size_t n);

 private:
  void release();
  std::shared_ptr<PagePool> pool_;
  std::vector<int64_t> numbers_;
};

/// One sequence. Not thread-safe; the model writes it, one batch at a time.
class Sequence {
 public:
  ~Sequence();
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  [[nodiscard]] int64_t n_tokens() const { return n_tokens_; }
  /// Makes room for n more tokens: an error (kOutOfMemory) when the pool has not enough pages left, and then
  /// nothing has changed. Does not allocate.
  [[nodiscard]] Status reserve(int64_t n_more_tokens);
  /// Pages that reserve() would take from the pool.
  [[nodiscard]] int64_t pages_to_reserve(int64_t n_more_tokens) const;
  /// Counts n tokens as written; the model calls it after a batch.
  void advance(int64_t n_tokens) { n_tokens_ += n_tokens; }
  /// Forgets everything: pages go back to the pool, states to zero.
  void reset();
  /// As reset(), but leaves the states as they are: until reset() or resume() the sequence must not be used.
  void release();
  /// In place of what it held, the sequence continues the first `n_tokens` of another, `pages` of which are
  /// given with its state at that token. Whole pages are shared; a last one of which only some rows count is
  /// copied, for which the pool must have a page (kOutOfMemory, and the sequence is as after reset()).
  [[nodiscard]] Status resume(std::span<const int64_t> pages, int64_t n_tokens, const RecurrentState& state);
  [[nodiscard]] std::span<const int64_t> page_numbers() const;
  [[nodiscard]] RecurrentState& recurrent() const;  // of the same shape when it is replaced

  [[nodiscard]] const Layout& layout() const;
  /// Pages of one KV head of an attention layer, one entry for each page reserved: token t lies at entry
  /// t / kPageTokens, row t % kPageTokens, rows being k_row_bytes() (v_row_bytes()) apart.
  [[nodiscard]] std::span<const void* const> k_pages(int layer, int64_t kv_head) const;
  [[nodiscard]] std::span<const void* const> v_pages(int layer, int64_t kv_head) const;
  /// Where the row [head_dim] of a token is written; the token must be reserved.
  [[nodiscard]] std::byte* k_row(int layer, int64_t kv_head, int64_t token) const;
  [[nodiscard]] std::byte* v_row(int layer, int64_t kv_head, int64_t token) const;
  /// S [nv, dk, dv] of a recurrent layer.
  [[nodiscard]] float* state(int layer) const { return recurrent().state(layer); }
  /// [(taps - 1), channels] of a recurrent layer.
  [[nodiscard]] float* conv_history(int layer) const { return recurrent().conv_history(layer); }

 private:
  friend class PagePool;
  struct Impl;
  Sequence(std::shared_ptr<PagePool> pool, std::unique_ptr<Impl> impl);
  void append(int64_t page);
  int64_t n_tokens_ = 0;
  std::shared_ptr<PagePool> pool_;
  std::unique_ptr<Impl> impl_;
};

/// The memory of all sequences. Capacity in tokens is rounded up to whole pages. Memory is taken from the
/// system when it is first written. Not thread-safe, like its sequences.
class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  /// `device` has the memory of the layers that the layout puts there; null when there are none.
  static Result<std::shared_ptr<PagePool>> create(Layout layout, int64_t capacity_tokens,
                                                  std::shared_ptr<DeviceMemory> device = nullptr);
  ~PagePool();
  /// `max_tokens`: the most it will ever hold; 0: as many as the pool.
  [[nodiscard]] Result<std::unique_ptr<Sequence>> new_sequence(int64_t max_tokens = 0);
  /// To keep what a sequence's state is at some token.
  [[nodiscard]] Result<RecurrentState> new_state() const;
  [[nodiscard]] const Layout& layout() const;
  [[nodiscard]] int64_t capacity_tokens() const;
  [[nodiscard]] int64_t free_tokens() const;
  [[nodiscard]] int64_t n_pages() const;
  [[nodiscard]] int64_t n_free_pages() const;
  [[nodiscard]] int64_t n_kept_pages() const;    // that no sequence has, only HeldPages
  [[nodiscard]] int64_t capacity_bytes() const;  // of all pages, when every one has been written

  // Contents as they leave memory for a file, and come back: page_bytes() each, the attention layers in the
  // model's order, whichever side has them. Errors are the device's, and then what was written to is
  // undefined.
  [[nodiscard]] int64_t page_bytes() const;
  [[nodiscard]] Status read_pages(std::span<const int64_t> pages, std::span<std::byte> to) const;
  /// Of pages that take_pages() gave.
  [[nodiscard]] Status write_pages(std::span<const int64_t> pages, std::span<const std::byte> from);
  /// Free pages, at most n_free_pages(), with undefined contents.
  [[nodiscard]] HeldPages take_pages(int64_t n);

 private:
  friend class Sequence;
  friend class HeldPages;
  struct Impl;
  explicit PagePool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::cache
