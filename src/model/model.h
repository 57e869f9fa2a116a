// A loaded Qwen3-Next model and its forward pass.
//
// Facts and shapes: docs/model.md. One call of forward() sends a batch, tokens of one or several sequences,
// through the compiled schedule and returns logits for the positions asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "cache/sequence.h"
#include "gguf/file.h"
#include "model/hparams.h"
#include "model/placement.h"
#include "model/residency.h"

namespace packmule::model {

struct ModelOptions {
  Isa isa = Isa::kRef;
  int64_t ubatch_size =
      512;  // most tokens that go through the schedule at once; sizes the activation buffers
  quant::Type k_type = quant::Type::kF16;
  quant::Type v_type = quant::Type::kF16;
  LoadMode load_mode = LoadMode::kMmap;
  int64_t logit_rows = 0;  // most positions of a batch whose logits are asked for; 0: any number
  /// Attention over more cached tokens is computed in spans of so many (whole pages) and put together in their
  /// order, whoever computes them: bits depend on it, not on the number of threads. Other values are for tests.
  int64_t attention_span = 4096;
  /// What is on a graphics device; null: nothing (placement.h).
  std::shared_ptr<const Placement> placement = nullptr;
};

enum class WantLogits { kNone, kLast, kAll };

/// A place in a slice where the delta rule's chunks begin anew, as if a slice ended there and another followed, and
/// where the recurrent state may be kept.
struct Mark {
  int64_t n_tokens = 0;                     // of the slice, before it
  cache::RecurrentState* copy_to = nullptr;  // null: nowhere. Of the model's cache layout
};

/// Consecutive tokens of one sequence, following those it already has.
struct Slice {
  cache::Sequence* sequence = nullptr;
  std::span<const int32_t> tokens;
  WantLogits want_logits = WantLogits::kLast;
  /// Ascending; each but one at the very end behind at least the tokens that the convolution looks back (3).
  std::span<const Mark> marks = {};
};

/// Watches a forward pass from inside; for tests and tools. Called on the calling thread. What a device
/// computes is not seen.
class Probe {
 public:
  virtual ~Probe() = default;
  /// Residual stream [hidden] of batch row `row` after `layer`; layer -1 is the embedding.
  virtual void residual(int layer, int64_t row, std::span<const float> x) = 0;
  /// Chosen experts of batch row `row`, highest weight first.
  virtual void experts(int layer, int64_t row, std::span<const int32_t> chosen) = 0;
};

/// What a loaded model takes and reads, without loading it.
struct ModelSizes {
  int64_t weight_bytes = 0;            // as Model::weight_bytes()
  int64_t weight_bytes_per_token = 0;  // as Model::weight_bytes_per_token()
  int64_t activation_bytes = 0;        // as Model::activation_bytes()
  cache::Layout cache_layout;
};

class Model {
 public:
  /// The file must outlive the model, which may use weights where it is mapped. The pool is shared with
  /// nobody while load() or forward() runs. An error names the key or tensor that is missing or has a wrong
  /// shape or type.
  static Result<std::unique_ptr<Model>> load(const gguf::File& file, const ModelOptions& options,
                                             ThreadPool& pool);
  ~Model();

  /// Checks the file as load() does and says what load() with so many threads would take. Of the weights only
  /// small vectors are read; whether memory is available is not asked.
  static Result<ModelSizes> sizes(const gguf::File& file, const ModelOptions& options, int n_threads);

  [[nodiscard]] const Hparams& hparams() const;
  [[nodiscard]] cache::Layout cache_layout() const;
  [[nodiscard]] int64_t weight_bytes() const;            // all weights the forward pass can touch
  [[nodiscard]] int64_t weight_bytes_per_token() const;  // read for one decoded token (chosen experts only)
  [[nodiscard]] int64_t activation_bytes() const;        // buffers owned by the model
  [[nodiscard]] LoadMode load_mode() const;              // what kAuto has become
  [[nodiscard]] int64_t device_weight_bytes() const;     // of the weights, those on the device
  [[nodiscard]] int64_t device_bytes() const;            // of the device's memory that load() took
  /// A pool of pages for sequences of this model, with their part on the device if there is one.
  [[nodiscard]] Result<std::shared_ptr<cache::PagePool>> new_pool(int64_t capacity_tokens) const;

  /// Runs slices whose tokens number at most ubatch_size in all (more is an error, as are an unknown token id
  /// and a sequence twice). Room in each sequence is reserved first; on an error nothing has been written.
  /// Returns one row of n_vocab logits per position asked for (at most logit_rows), in batch order, valid
  /// until the next call. Logits of padding tokens are as computed; the sampler masks them.
  ///
  /// When `stop` is requested meanwhile, the call ends after the step at hand with kCancelled; the batch's
  /// sequences, written in part, have been reset, and states to be kept are undefined. So it is with any
  /// other error while tokens are computed, which only a device can cause.
  [[nodiscard]] Result<std::span<const float>> forward(std::span<const Slice> batch, Probe* probe = nullptr,
                                                       const std::stop_token& stop = {});

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::model
