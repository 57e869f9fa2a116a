// Everything one conversation leaves behind in the model: KV pages of the attention layers, recurrent and
// convolution state of the DeltaNet layers.
//
// A KV page holds `kPageTokens` tokens of all attention layers: layer by layer, first K then V, each head by head,
// kPageTokens rows [head_dim] in the cache's format: a head's rows follow each other, for they are read together. Pages come from a pool with a fixed
// capacity, so a context that does not fit is refused when it is asked for, not in the middle of a sentence.
// The recurrent state of a layer is S [nv, dk, dv] in float32; its convolution history the last (taps - 1)
// rows [channels] before the convolution, oldest first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/result.h"
#include "quant/format.h"

namespace packmule::cache {

inline constexpr int64_t kPageTokens = 64;

struct Layout {
  std::vector<bool> recurrent;  // per layer: DeltaNet (true) or attention
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  quant::Type k_type = quant::Type::kF16;
  quant::Type v_type = quant::Type::kF16;
  int64_t conv_channels = 0;
  int64_t conv_taps = 4;
  int64_t n_v_heads = 0;
  int64_t dk = 0;
  int64_t dv = 0;

  /// The cache formats must divide the head: an error names the format and the head size that do not fit.
  [[nodiscard]] Status validate() const;
  [[nodiscard]] int64_t n_attention_layers() const;
  [[nodiscard]] int64_t k_row_bytes() const;  // one token, one KV head
  [[nodiscard]] int64_t v_row_bytes() const;
  [[nodiscard]] int64_t kv_bytes_per_token() const;  // all layers
  [[nodiscard]] int64_t recurrent_bytes() const;     // of one sequence, S and convolution
  bool operator==(const Layout&) const = default;
};

class PagePool;

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
  /// Counts n tokens as written; the model calls it after a batch.
  void advance(int64_t n_tokens) { n_tokens_ += n_tokens; }
  /// Forgets everything: pages go back to the pool, states to zero.
  void reset();

  [[nodiscard]] const Layout& layout() const;

  /// Pages of one KV head of an attention layer, one entry for each page reserved: token t lies at entry
  /// t / kPageTokens, row t % kPageTokens, rows being k_row_bytes() (v_row_bytes()) apart.
  [[nodiscard]] std::span<const void* const> k_pages(int layer, int64_t kv_head) const;
  [[nodiscard]] std::span<const void* const> v_pages(int layer, int64_t kv_head) const;
  /// Where the row [head_dim] of a token is written; the token must be reserved.
  [[nodiscard]] std::byte* k_row(int layer, int64_t kv_head, int64_t token) const;
  [[nodiscard]] std::byte* v_row(int layer, int64_t kv_head, int64_t token) const;
  /// S [nv, dk, dv] of a recurrent layer.
  [[nodiscard]] float* state(int layer) const;
  /// [(taps - 1), channels] of a recurrent layer.
  [[nodiscard]] float* conv_history(int layer) const;

 private:
  friend class PagePool;
  struct Impl;
  Sequence(std::shared_ptr<PagePool> pool, std::unique_ptr<Impl> impl);
  int64_t n_tokens_ = 0;
  std::shared_ptr<PagePool> pool_;
  std::unique_ptr<Impl> impl_;
};

/// The memory of all sequences. Capacity in tokens is rounded up to whole pages. Memory is taken from the
/// system when it is first written. Not thread-safe, like its sequences.
class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  static Result<std::shared_ptr<PagePool>> create(Layout layout, int64_t capacity_tokens);
  ~PagePool();
  [[nodiscard]] Result<std::unique_ptr<Sequence>> new_sequence();
  [[nodiscard]] const Layout& layout() const;
  [[nodiscard]] int64_t capacity_tokens() const;
  [[nodiscard]] int64_t free_tokens() const;
  [[nodiscard]] int64_t capacity_bytes() const;  // of all pages, when every one has been written

 private:
  friend class Sequence;
  struct Impl;
  explicit PagePool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::cache
