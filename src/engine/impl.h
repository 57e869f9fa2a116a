// What an engine owns. Private to this folder.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "cache/sequence.h"
#include "engine/engine.h"
#include "engine/turn.h"

namespace packmule::engine {

/// In the order in which the parts need each other.
struct Engine::Impl {
  EngineOptions options;
  gguf::File file;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<ThreadPool> threads;
  std::unique_ptr<model::Model> model;
  std::shared_ptr<cache::PagePool> pages;
  std::unique_ptr<cache::Sequence> sequence;
  std::vector<int32_t> held;     // the tokens of `sequence`
  std::vector<int32_t> padding;  // ids that are never drawn
  std::vector<int32_t> ends;     // ids that end a turn
  sampling::Params default_sampling;
  Turn turn;
  mutable std::mutex state_mutex;
  State state;  // guarded by state_mutex

  explicit Impl(gguf::File opened) : file(std::move(opened)) {}

  /// Changes what state() tells.
  template <class Change>
  void tell(Change&& change) {
    const std::lock_guard lock(state_mutex);
    change(state, state.slots.front());
  }
  [[nodiscard]] Status check(const Request& request) const;
  /// Drops what the sequence holds unless the prompt goes on from it. Returns the tokens that are kept.
  int64_t keep_common_part(const std::vector<int32_t>& prompt);
  /// Sends tokens that follow those held. The logits of the last one, if wanted, are valid until the next
  /// call. When `stop` is requested meanwhile the error is kCancelled and nothing is held any more.
  [[nodiscard]] Result<std::span<const float>> forward(std::span<const int32_t> tokens,
                                                       model::WantLogits want,
                                                       const std::stop_token& stop = {});
};

}  // namespace packmule::engine
